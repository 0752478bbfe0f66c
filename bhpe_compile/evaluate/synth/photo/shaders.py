"""GLSL of version 3: light for every pixel, in linear colours.

Folds, weaves and strands are a height, whose slope turns the normal ("unparametrized bump mapping", Mikkelsen 2010).
Places on the T-pose (`R`) say what is painted where, as in version 2 (`synth/shaders.py`).
"""

from __future__ import annotations

from bhpe_compile.evaluate.synth.photo.fabrics import pattern_function
from bhpe_compile.evaluate.synth.shaders import COVERED

_PROJECT = """#version 330
uniform vec4 camera;    // x, y: 2 focal / size; z, w: 2 principal / size - 1
uniform vec2 planes;    // near, far
vec4 project(vec3 p) {
    return vec4(camera.x * p.x + camera.z * p.z, -(camera.y * p.y + camera.w * p.z),
        (planes.y + planes.x) / (planes.y - planes.x) * p.z - 2.0 * planes.x * planes.y / (planes.y - planes.x), p.z);
}
"""

VERTEX = (
    _PROJECT
    + """
uniform float shell;    // metres that a layer of hair stands off
uniform sampler3D grain;
in vec3 position, normal, rest, part;
in vec3 state;          // sky that is seen, cloth, squeezed
out vec3 P, N, R, A, S;
out float M;            // noise of a decimetre
void main() {
    M = textureLod(grain, rest * 1.1 + 0.3, 0.0).x;
    P = position + normal * shell;
    N = normal; R = rest; A = part; S = state;
    gl_Position = project(P);
}
"""
)

FLAT_VERTEX = """#version 330
uniform mat4 to_sun;
in vec3 position;
void main() { gl_Position = vec4(2.0 * (to_sun * vec4(position, 1.0)).xyz - 1.0, 1.0); }
"""

FLAT_FRAGMENT = """#version 330
void main() {}
"""

GROUND_VERTEX = (
    _PROJECT
    + """
uniform vec3 foot, up, along;   // a point of the ground, its normal, where light comes from
uniform float fade;             // metres above the ground where a thing casts no shadow any more; 0: none
in vec3 position;
out float shade;
void main() {
    float h = dot(position - foot, up);
    shade = fade > 0.0 ? exp(-max(h, 0.0) / fade) : 1.0;
    gl_Position = project(position - along * (h / dot(along, up)));
}
"""
)

GROUND_FRAGMENT = """#version 330
uniform vec4 channel;
in float shade;
out vec4 colour;
void main() { colour = channel * shade; }
"""

_MATERIALS = """
uniform int extra;      // 1: not the body but cloth of its own (a skirt)
uniform float shell, shell_share;
uniform sampler3D grain;
uniform vec3 skin, lips, hair_colour, iris, shoe, sole, sock;  // linear
uniform vec3 shirt_a, shirt_b, trousers_a, trousers_b;
uniform vec4 shirt_pattern, trousers_pattern, feet, folds, details;
uniform vec3 weave, joints;
uniform vec2 opening, mottled;
uniform float strands, fringe, streaks, hair_gloss, shine, cloth_gloss, fuzz, flush, freckles, tan;
in vec3 P, N, R, A, S;
in float M;
out vec4 colour;

vec4 noise(vec3 p) { return textureLod(grain, p, 0.0); }

float ridge(float n) { return 1.0 / (1.0 + 3.0 * n * n); }

struct Surface { vec3 albedo; float height; float gloss; float rough; float soft; float hair; };
"""

_PAINT = """
vec3 seam(vec3 c, float distance) { return c * (1.0 - 0.4 * details.w * smoothstep(0.003, 0.0, abs(distance))); }

void painted_skin(inout Surface m, vec3 q, vec4 fine) {
    float red = 0.5 * ridge((R.y - joints.x) / 0.03) + 0.5 * ridge((abs(R.x) - joints.y) / 0.03);
    red += A.z > 0.5 ? smoothstep(joints.z, joints.z + 0.12, abs(R.x)) : 0.0;
    red += A.x > 0.5 ? ridge(3.0 * length(q.xy - vec2(0.0, -0.55)) - 1.5) : 0.0;
    vec3 c = skin * (1.0 + mottled.x * M + mottled.y * fine.w) * mix(vec3(1.0), vec3(1.12, 0.80, 0.76), flush * red);
    c *= 1.0 - 0.25 * freckles * smoothstep(1.0, 1.6, fine.z);
    c *= max(A.x, step(joints.y, abs(R.x))) > 0.5 ? 1.0 - tan * vec3(0.5, 0.9, 1.0) : vec3(1.0);
    m = Surface(c, 0.00006 * fine.w, 0.25 + 0.8 * shine, 18.0, 1.0, 0.0);
}

void painted_face(inout Surface m, vec3 q, vec4 fine) {
    vec2 e = vec2(abs(q.x) - 0.5, q.y);
    float centre = length(e);
    if (A.y > 0.5) {
        vec3 c = mix(vec3(0.50, 0.44, 0.41), iris * (0.4 + 4.0 * centre), smoothstep(0.135, 0.11, centre));
        c *= 1.0 - 0.6 * smoothstep(0.02, 0.14, e.y);
        m = Surface(c * smoothstep(0.045, 0.06, centre), 0.0, 1.5, 60.0, 0.2, 0.0);
    } else if (q.z > -0.55) {
        m.albedo *= 1.0 - 0.5 * ridge(4.0 * length(e - vec2(0.0, 0.1)));
        float lash = smoothstep(0.05, 0.01, abs(length(vec2(0.9 * e.x, e.y + 0.05)) - 0.22)) * step(0.02, e.y);
        float brow = abs(q.y - 0.40 + 0.25 * e.x * e.x) + 0.02 * fine.w;
        float there = smoothstep(0.10, 0.03, brow) * smoothstep(0.34, 0.20, abs(abs(q.x) - 0.52));
        m.albedo = mix(m.albedo, hair_colour, max(0.75 * there, 0.6 * lash));
        float mouth = length(vec2(q.x / 0.42, (q.y + 1.15) / 0.13));
        m.albedo = mix(m.albedo, lips, smoothstep(1.15, 0.8, mouth));
        m.albedo *= 1.0 - 0.6 * smoothstep(0.03, 0.0, abs(q.y + 1.15 - 0.03 * q.x * q.x)) * step(abs(q.x), 0.38);
        m.albedo *= 1.0 - 0.7 * smoothstep(0.06, 0.02, length(vec2(abs(q.x) - 0.10, 0.7 * (q.y + 0.68))));
        float stubble = feet.w * smoothstep(-0.70, -0.95, q.y + 0.06 * fine.x) * smoothstep(1.5, 1.2, abs(q.x));
        stubble = clamp(stubble * (0.8 + 0.2 * fine.w), 0.0, 0.9) * smoothstep(0.8, 1.3, mouth);
        m.albedo = mix(m.albedo, hair_colour, stubble);
    }
}

// Every branch is computed for every pixel, whichever is taken: a software renderer works on eight at once. So what
// costs most (noise, patterns) stands outside of branches, and is computed once.
Surface material(vec3 q) {
    float arm = A.z;
    vec4 fine = noise(R * 9.0);
    bool body = extra == 0;
    bool hair = body && hairy(R) + fringe * fine.x > 0.0;
    bool top = body && shirted(R, arm) > 0.0, trouser = !body || trousered(R, arm) > 0.0;
    bool shod = body && R.y < feet.x, socked = R.y < feet.y && !trouser;
    bool open = abs(R.x) < opening.x * (1.0 + 0.5 * (R.y - opening.y)) && R.z > 0.0 && R.y > opening.y;
    bool face = body && A.x > 0.5 && !top;

    vec3 limb = (arm > 0.5 ? vec3(R.y, abs(R.x), R.z) : R) * folds.w;
    vec3 hanging = vec3(2.4, 0.6, 2.4) * limb + folds.z;
    vec3 across = vec3(0.7 * limb.x + 0.5 * limb.y, 2.9 * limb.y + 0.6 * limb.x, 0.9 * limb.z) + 1.7 * folds.z;
    float a = atan(q.x, q.z + 1.5) * 2.5;  // strands run from the crown down
    vec4 first = noise(hair ? vec3(a * 0.35, q.y * 0.05, 0.1) : hanging);
    vec4 second = noise(hair ? vec3(a * 1.3, q.y * 0.06, 0.6) : across);
    float mixed = pattern(top ? shirt_pattern : trousers_pattern, R, top ? arm : 0.0);

    Surface m;
    painted_skin(m, q, fine);
    if (face) painted_face(m, q, fine);
    vec3 c = trouser ? mix(trousers_a, trousers_b, trousers_pattern.w * mixed) : sock;
    if (body && trouser) c = seam(seam(c, R.y - trousers.y - 0.02), R.y < joints.x + 0.5 ? R.z + 0.02 : 1.0);
    float raised = 0.0;
    if (top) {
        c = open ? shirt_b : mix(shirt_a, shirt_b, shirt_pattern.w * mixed);
        c = seam(seam(c, R.y - shirt.x - 0.018), shirt.y - abs(R.x) - 0.018);
        c = seam(c, abs(R.x) - 0.17);
        float neck = shirt.z - R.y;
        bool collar = arm < 0.5 && neck < 2.0 * details.y && neck > 0.0;
        c = collar ? mix(c, shirt_b, 0.7) : c;
        bool placket = details.x > 0.5 && R.z > 0.0 && abs(R.x) < 0.016 && !open;
        raised = (collar ? 0.004 : 0.0) + (placket ? 0.0015 * smoothstep(0.016, 0.013, abs(R.x)) : 0.0);
        c = placket && length(vec2(R.x, mod(R.y, 0.09) - 0.045)) < 0.005 ? mix(vec3(0.8), c, 0.3) : c;
    }
    float u = (arm > 0.5 ? R.z + R.y : R.x + R.z) * weave.y, v = (arm > 0.5 ? abs(R.x) : R.y) * weave.y;
    float threads = sin(6.28 * (weave.z < 0.5 ? u : u + v)) * (weave.z > 1.5 ? cos(6.28 * (u - v)) : 1.0);
    float folded = folds.x * ridge(first.x) + folds.y * (0.25 + 2.2 * S.z) * ridge(second.y) + weave.x * threads;
    if (top || trouser || socked) m = Surface(c, raised + folded, cloth_gloss, 10.0, 0.0, 0.0);
    if (body && trouser && !top && abs(R.y - trousers.x + details.z) < details.z)
        m = Surface(shoe * 0.8, 0.003, 0.4, 20.0, 0.0, 0.0);
    if (shod) m = Surface(R.y < feet.z ? sole : shoe, 0.0006 * M, 0.35, 20.0, 0.0, 0.0);
    if (hair) {
        vec3 strand = hair_colour * max(0.1, 1.0 + 2.0 * strands * streaks * (0.6 * first.x + 0.6 * second.y));
        m = Surface(strand, 0.0012 * strands * (first.x + 0.8 * second.y), hair_gloss, 12.0, 0.0, strands);
    }
    return m;
}
"""

_LIGHT = """
uniform sampler2DShadow shadow;
uniform mat4 to_sun;
uniform vec3 up, sun, sun_colour, sky, ground, fill, fill_colour;
uniform float soft;

float sunlit(vec3 p) {
    vec3 s = (to_sun * vec4(p, 1.0)).xyz;
    float d = soft / SHADOWS;
    float total = texture(shadow, s + vec3(d, 0.4 * d, 0.0)) + texture(shadow, s + vec3(-0.8 * d, 0.6 * d, 0.0));
    return (total + texture(shadow, s + vec3(-0.2 * d, -d, 0.0))) / 3.0;
}

void main() {
    vec3 q = on_head(R), n = normalize(N);
    if (!gl_FrontFacing) n = -n;
    Surface m = material(q);
    vec3 dx = dFdx(P), dy = dFdy(P), rx = cross(dy, n), ry = cross(n, dx);
    float det = dot(dx, rx);
    vec3 slope = sign(det) * (dFdx(m.height) * rx + dFdy(m.height) * ry);
    slope *= min(1.0, 1.2 * abs(det) / (length(slope) + 1e-12));
    vec3 b = normalize(abs(det) * n - slope);
    vec3 fall = sign(det) * (dFdx(R.y) * rx + dFdy(R.y) * ry);  // along the surface, up the body: where strands lie

    vec3 v = normalize(-P), h = normalize(sun + v);
    float open = S.x, lit = sunlit(P + 0.015 * n), d = dot(b, sun);
    vec3 wrap = m.soft * vec3(0.30, 0.10, 0.06);
    vec3 direct = sun_colour * lit * max((d + wrap) / (1.0 + wrap), 0.0);
    vec3 seen = vec3(mix(open, sqrt(open), m.soft), open, open);
    vec3 around = mix(ground, sky, 0.5 + 0.5 * dot(b, up)) * seen;
    vec3 filled = fill_colour * max(dot(b, fill), 0.0) * open;
    float graze = 1.0 - max(dot(b, v), 0.0);
    graze *= graze;
    graze *= graze;
    float along = dot(normalize(fall + 1e-6), h);
    float polish = m.hair > 0.0 ? max(1.0 - along * along, 0.0) : max(dot(b, h), 0.0);
    float glint = pow(polish, m.hair > 0.0 ? 40.0 : m.rough);
    glint *= m.hair > 0.0 ? m.hair : step(0.0, d);
    vec3 mirrored = mix(ground, sky, 0.5 + 0.5 * dot(reflect(-v, b), up)) * open;
    vec3 c = m.albedo * (direct + around + filled) + 0.25 * m.gloss * glint * lit * sun_colour
        + (0.02 + 0.25 * graze) * m.gloss * mirrored + 0.25 * fuzz * S.y * graze * m.albedo * (around + direct);
    colour = vec4(sqrt(c / (1.0 + 0.18 * c) * 1.05), 1.0);
    if (shell > 0.0) {  // a layer of hair: strands that end at different lengths
        float a = atan(q.x, q.z + 1.5) * 2.5;
        float strand = 0.5 + 0.25 * (noise(vec3(a * 2.2, q.y * 0.09, 0.2)).w + noise(vec3(a * 0.8, q.y * 0.07, 0.4)).x);
        if (hairy(R) < 0.1 || strand < shell_share) discard;
    }
}
"""

SHADOWS = 256
"""Texels of a side of the shadow map."""

FRAGMENT = (
    "#version 330\n"
    + COVERED
    + _MATERIALS
    + pattern_function()
    + _PAINT
    + _LIGHT.replace("SHADOWS", f"{SHADOWS}.0")
)

"""GLSL: clothes, hair and face are painted by the place on the body in its T-pose, so their edges are sharp.

`rest` is that place in metres (x to the left, y up, z forward) and `part` says how much a vertex belongs to (head,
eyes, arms). `q` is the place on the head in distances of the eyes, from the point between them. Loose clothes and
hair are the body's surface, moved outwards. Light is computed at the vertices: triangles cover three pixels or so, and
a software renderer shades at least four for each.
"""

from __future__ import annotations

COVERED = """
uniform vec3 head;      // y and z of the eyes, distance between them
uniform vec4 hair;      // lowest q.y behind, q.y of the hair line, thickness in metres, waves
uniform vec4 shirt;     // y of the hem, |x| where sleeves end, y of the neckline, depth of the V
uniform vec4 trousers;  // y of the waist, y where the legs end, centimetres of looseness: trousers, shirt

vec3 on_head(vec3 r) { return (r - vec3(0, head.x, head.y)) / head.z; }

float hairy(vec3 r) {  // above 0: hair
    vec3 q = on_head(r);
    float line = mix(hair.x, hair.y, smoothstep(-1.5, -0.55, q.z));
    return min(q.y - line, 1.6 - abs(q.x));
}
float shirted(vec3 r, float arm) {  // above 0: covered by the shirt
    float v = shirt.w * max(0.0, 1.0 - abs(r.x) / 0.07) * step(0.0, r.z);
    return min(min(r.y - shirt.x, shirt.y - abs(r.x)), mix(shirt.z - v - r.y, 1.0, step(0.5, arm)));
}
float trousered(vec3 r, float arm) { return min(min(trousers.x - r.y, r.y - trousers.y), 0.5 - arm); }
"""

VERTEX = (
    "#version 330\n"
    + COVERED
    + """
uniform vec4 camera;    // x, y: 2 focal / size; z, w: 2 principal / size - 1
uniform vec2 planes;    // near, far
uniform int extra;      // 1: not the body but cloth of its own (a skirt)
uniform vec2 wrinkles;  // how deep, how many
uniform vec3 light, light_colour, sky, ground, fill, fill_colour;
uniform float shine;
in vec3 position;
in vec3 normal;
in vec3 rest;
in vec3 part;
out vec3 R, A;
out vec4 L;             // light; how mottled the skin is
out vec3 G;             // light that glints
void main() {
    vec3 p = position, n = normal;
    float gloss = shine, cloth = 1.0;
    if (extra == 0) {
        float shirt_edge = smoothstep(0.0, 0.05, shirted(rest, part.z));
        float trouser_edge = smoothstep(0.0, 0.05, trousered(rest, part.z));
        float hair_edge = smoothstep(0.0, 0.5, hairy(rest));
        float wave = 1.0 + hair.w * sin(60.0 * rest.y + 40.0 * rest.x) * sin(70.0 * rest.z);
        p += n * max(max(0.01 * trousers.w * shirt_edge, 0.01 * trousers.z * trouser_edge), hair.z * hair_edge * wave);
        cloth = max(shirt_edge, trouser_edge);
        gloss = max(mix(mix(shine, 0.05, cloth), 0.15, hair_edge), 0.6 * part.y);
    }
    vec3 f = wrinkles.y * rest;
    n = normalize(n + cloth * wrinkles.x * vec3(sin(f.y + 2.0 * sin(0.7 * f.x)), sin(1.3 * f.x + 1.7 * f.z),
        sin(0.8 * f.y + 1.9 * f.x)));
    float d = dot(n, light);
    L.rgb = mix(ground, sky, 0.5 - 0.5 * n.y) + light_colour * (max(d, 0.0) * 0.85 + 0.075 * (1.0 + d))
        + fill_colour * max(dot(n, fill), 0.0);
    L.a = 1.0 + 0.06 * sin(31.0 * rest.x + 7.0) * sin(37.0 * rest.y) + 0.03 * sin(160.0 * rest.z + 90.0 * rest.y);
    G = light_colour * gloss * pow(max(dot(n, normalize(light - normalize(p))), 0.0), 24.0);
    R = rest;
    A = part;
    gl_Position = vec4(camera.x * p.x + camera.z * p.z, -(camera.y * p.y + camera.w * p.z),
        (planes.y + planes.x) / (planes.y - planes.x) * p.z - 2.0 * planes.x * planes.y / (planes.y - planes.x), p.z);
}
"""
)

FRAGMENT = (
    "#version 330\n"
    + COVERED
    + """
uniform int extra;
uniform vec3 skin, lips, hair_colour, iris, shoe, sole, sock;
uniform vec3 shirt_a, shirt_b, trousers_a, trousers_b;
uniform vec4 shirt_pattern, trousers_pattern;  // kind, repeats a metre, phase, strength
uniform vec4 feet;      // y of the shoes' top, y of the socks' top, y of the soles' top, beard
uniform vec2 opening;   // half width of an open jacket, its lowest y
in vec3 R, A, G;
in vec4 L;
out vec4 colour;

float pattern(vec4 kind, vec3 r, float arm) {
    int k = int(kind.x + 0.5);
    if (k == 0) return 0.0;
    if (k == 6) return step(kind.z * 0.3, r.y);
    if (k == 8) return (abs(r.x) < 0.09 && r.z > 0.0 && abs(r.y - 0.28) < 0.07) ? 1.0 : 0.0;  // a print on the chest
    float along = (arm > 0.5 ? abs(r.x) : r.y) * kind.y + kind.z;
    float across = (arm > 0.5 ? r.z : r.x) * kind.y + 0.25;
    float s = sin(6.2832 * along), t = sin(6.2832 * across), sharp = 6.0;
    if (k == 1) return clamp(0.5 + sharp * s, 0.0, 1.0);
    if (k == 2) return clamp(0.5 + sharp * t, 0.0, 1.0);
    if (k == 3) return clamp(0.5 + sharp * s * t, 0.0, 1.0);
    if (k == 4) return clamp(0.5 + sharp * (s * t - 0.5), 0.0, 1.0);
    if (k == 5) return clamp(0.5 + 2.0 * (s + t + sin(9.1 * along + 5.0 * t) + sin(8.3 * across + 4.0 * s)), 0.0, 1.0);
    return 0.5 * step(0.0, s) + 0.5 * step(0.0, t);
}

vec3 painted_head(vec3 c) {
    vec3 q = on_head(R);
    if (A.y > 0.5) {
        float centre = length(vec2(abs(q.x) - 0.5, q.y));
        return centre < 0.05 ? vec3(0.03) : centre < 0.11 ? iris : vec3(0.88, 0.87, 0.85);
    }
    if (hairy(R) > 0.0)
        return hair_colour * (0.8 + 0.25 * sin(220.0 * R.x + 40.0 * sin(30.0 * R.z)) * sin(35.0 * R.y + 60.0 * R.z));
    if (q.z < -0.55 || A.x < 0.5) return c;
    if (abs(q.y + 0.6) < 0.4) c *= vec3(1.04, 0.95, 0.94);
    float brow = abs(q.y - 0.38 + 0.25 * (abs(q.x) - 0.5) * (abs(q.x) - 0.5));
    if (brow < 0.07 && abs(abs(q.x) - 0.52) < 0.30) return mix(c, hair_colour, 0.75);
    if (length(vec2(q.x / 0.42, (q.y + MOUTH) / 0.13)) < 1.0) return lips;
    return q.y < -0.75 && abs(q.x) < 1.3 ? mix(c, hair_colour, feet.w) : c;
}

void main() {
    float arm = A.z;
    vec3 c = skin * L.a;
    if (arm > 0.5) c *= mix(vec3(1), vec3(1.05, 0.96, 0.95), smoothstep(0.72, 0.80, abs(R.x)));
    if (extra == 1 || trousered(R, arm) > 0.0)
        c = mix(trousers_a, trousers_b, trousers_pattern.w * pattern(trousers_pattern, R, 0.0));
    else if (R.y < feet.y) c = sock;
    if (extra == 0) {
        if (R.y < feet.x) c = R.y < feet.z ? sole : shoe;
        if (shirted(R, arm) > 0.0) {
            bool open = abs(R.x) < opening.x * (1.0 + 0.5 * (R.y - opening.y)) && R.z > 0.0 && R.y > opening.y;
            c = open ? shirt_b : mix(shirt_a, shirt_b, shirt_pattern.w * pattern(shirt_pattern, R, arm));
        }
        if (A.x > 0.02 || hairy(R) > 0.0) c = painted_head(c);
    }
    colour = vec4(c * L.rgb + G, 1.0);
}
"""
).replace("MOUTH", "1.15")

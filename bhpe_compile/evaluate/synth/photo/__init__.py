"""Version 3 of the generator: the people of version 2, painted more like photographs.

What it adds, a file each; every effect has a random strength, and a part of the pictures lacks it:

    fabrics     patterns of cloth: weaves, prints, checks, stains
    garment     cloth that bridges hollows, hangs loose and folds; shoes without toes
    occlusion   what a point of the body sees of the sky: creases are darker
    light       sun, sky and light from the ground, in the colours of the background
    look        who has which of all this; hair, skin and clothes are those of version 2
    shaders     folds, weaves, skin, strands of hair, and shadows of the body on itself
    ground      shadows on the ground
    scenery     photographs behind the people, where there are some
    lens        depth of field, movement, chromatic aberration, vignetting
    sensor      noise, softening, sharpening, tones, resolution, JPEG
    painter     all of this, one after the other
"""

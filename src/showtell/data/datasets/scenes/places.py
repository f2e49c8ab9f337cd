"""Words for where and when a scene is, and the beginnings of sentences."""

# setting and zone: where a thing is; "move" is for what crosses the land.
PLACES: dict[str, str] = {
    "beach land": "on the beach|on a beach|on the sand|on a sandy beach|at the beach|by the sea|on the shore|"
                  "by the ocean|near the water|at the seaside|in the sand|by the water|beside the ocean|"
                  "on a quiet beach|on the sandy shore|near the waves",
    "beach move": "across the sand|along the beach|along the shore|on the beach|down a sandy beach|by the sea|"
                  "beside the waves|over the sand|near the water",
    "beach water": "on the sea|in the water|off the beach|on the ocean|close to the shore|in the sea|"
                   "along the coast|near a beach|past the beach|in the bay|close to a beach",
    "beach air": "over the beach|above the sea|over the sand|in the sky|above a beach|over the shore|by the ocean|"
                 "at the beach|above the shore|near the ocean|in the sea air|over the coast",
    "field land": "in a field|in the grass|on the grass|in a grassy field|in a meadow|in a green field|on a meadow|"
                  "in the countryside|in a pasture|on green grass|in the green grass|on a farm|out in a field|"
                  "in the open field|on grassy land",
    "field move": "across a field|through the grass|across a meadow|over the grass|in a green field|"
                  "in the countryside|through a meadow|across the grass|over a green field|around a field",
    "field air": "over a field|over the grass|above a meadow|in the sky|over green fields|above a grassy field|"
                 "in the air|over the countryside|above the grass|over a meadow|above farmland",
    "street land": "on the street|on a city street|in the road|in town|on the road|in front of some buildings|"
                   "in the city|by some houses|on a street|by the side of the road|outside some houses|in a town|"
                   "in front of houses|near tall buildings",
    "street move": "down the street|along the road|through town|past some buildings|down a city street|on the road|"
                   "up the street|through the city|along a street|past the houses|across the road",
    "street air": "over the street|above the road|over the town|in the air|above the street|over the road|"
                  "over a city street|above the town|in the city",
    "snow land": "in the snow|on the snow|in a snowy field|on snowy ground|on a winter day|in winter|"
                 "in a snowy landscape|in a winter landscape|in white snow|on a field of snow|out in the snow|"
                 "in the cold snow|on the white ground",
    "snow move": "through the snow|across the snow|over the snow|in a snowy field|on a winter day|"
                 "through white snow|across snowy ground|in the cold snow",
    "snow air": "over the snow|above a snowy field|in the winter sky|over a snowy landscape|in the sky|"
                "above the snow|in the cold air|over white ground|above a white landscape",
    "sea water": "on the sea|in the ocean|on the water|at sea|on the open sea|in the water|"
                 "in the middle of the ocean|on the waves|on the ocean|on blue water|far from land|"
                 "out at sea|on the deep sea",
    "sea air": "over the sea|above the ocean|over the water|in the sky|above the waves|over the open sea|"
               "high in the air|over the waves|above the water|over the ocean|out at sea",
    "lake water": "on a lake|in the water|on the lake|on still water|in a lake|on the water|in a pond|"
                  "on a small lake|in a small lake|near the bank|on a pond|in the lake|on a quiet lake",
    "lake air": "over a lake|above the water|over the lake|in the sky|above a lake|over the water|in the air|"
                "above the lake|over a pond|over still water|near the water",
    "room land": "in a room|on the floor|in the living room|inside a house|indoors|in a living room|at home|inside|"
                 "in a house|inside a room|on the floor of a room|inside the house",
    "room move": "across the floor|through the room|around the living room|in a room|inside a house|around a room|"
                 "indoors|on the floor|inside the house",
    "room air": "in a room|in the air|in the living room|inside a house|indoors|inside a room|above the floor|"
                "in front of the wall|at home|in a house",
    "city land": "in the city|on a dark street|on the road|in the city at night|downtown|on a city street|"
                 "under city lights|in the dark|in front of lit windows|in a dark city|on the dark road|"
                 "in town at night|by dark buildings",
    "city move": "through the city|down a dark street|along the road|through the night|downtown|past lit buildings|"
                 "through a dark city|past lit windows|in the city at night",
    "city air": "over the city|above the city|in the night sky|above the dark street|over a dark street|"
                "over the city at night|downtown|in the dark|above town",
    "forest land": "in the woods|in a forest|in the forest|among the trees|on the forest floor|under the trees|"
                   "in front of some trees|in a clearing|in the wood|near tall trees|on the ground in a forest|"
                   "deep in the forest|by the trees",
    "forest move": "through the woods|through a forest|between the trees|past some trees|in the forest|in the woods|"
                   "past the trees|through a clearing|among the trees",
    "forest air": "in the woods|in front of the trees|in a forest|among the trees|above the forest floor|in the air|"
                  "in the forest|between the trees|in a clearing|in front of tall trees",
    "desert land": "in the desert|on the sand|in a desert|on dry land|on sandy ground|in the sand|"
                   "in the middle of the desert|on the desert sand|in a dry place|on dry sand|out in the desert|"
                   "in sandy land",
    "desert move": "across the desert|through the desert|over the sand|through the sand|across dry land|"
                   "over the desert sand|in the desert|across the sand|through a desert",
    "desert air": "over the desert|above the desert|in the sky|over the sand|above the dunes|in the air|"
                  "above the sand|over dry land|over a desert|above a dry desert",
    "park land": "in the park|in a park|on the grass|on the lawn|in a garden|on a green lawn|at the park|"
                 "near some trees|on green grass|in a green park|on the park lawn|in front of some trees|"
                 "in the green grass",
    "park move": "across the park|through a park|on the grass|across the lawn|in the park|through the garden|"
                 "over the grass|in a garden|across a lawn|around the park",
    "park air": "over the park|over the lawn|in a park|in the air|over the grass|above a green park|above the lawn|"
                "in the park|in a garden|above the park|at the park",
}

# The setting as a thing of its own: "a beach with ...".
SCENERY: dict[str, str] = {
    "beach": "a beach|a sandy beach|the seaside|a quiet beach",
    "field": "a field|a green meadow|a grassy field|farmland",
    "street": "a street|a city street|a quiet road|a town",
    "snow": "a snowy landscape|a snowy field|a winter scene",
    "sea": "the sea|open water|the ocean|the wide ocean",
    "lake": "a lake|a small lake|a large pond",
    "room": "a room|a living room|the inside of a house",
    "city": "a city at night|a dark street|a city skyline",
    "forest": "a forest|the woods|a forest clearing",
    "desert": "a desert|a dry desert|a sandy desert",
    "park": "a park|a green park|a leafy garden",
}

TIMES: dict[str, str] = {
    "day": "during the day|in daylight|on a nice day|in the daytime",
    "dull": "on a cloudy day|on a grey day|under a grey sky|on a dull day|under a cloudy sky",
    "sunset": "at sunset|in the evening|under an orange sky|at dusk|as the sun goes down|in the evening light",
    "night": "at night|under the stars|in the moonlight|late at night|under a dark sky|after dark",
}
CLEAR = "under a clear blue sky|on a sunny day|in the sunshine|on a clear day|under a blue sky"
CLOUDY = "under white clouds|with clouds in the sky|with a few clouds above"
NEAR_US, FAR_OFF = "in the foreground|up close|close by", "in the distance|far away|far off"

# Features of the background; windows, pictures and paths are mentioned only in a view of the whole place.
FEATURES: dict[str, str] = {
    "mountains": "with mountains in the background|with mountains behind|in front of mountains",
    "hills": "with hills in the background|with hills in the distance|with hills far away",
    "trees": "with trees in the background|with a row of trees behind",
    "fence": "with a fence behind|by a wooden fence|in front of a fence",
    "island": "with an island in the distance|with land far away",
    "cactuses": "with cactuses behind|with some cactuses around|near a few cactuses",
}
VIEW_FEATURES: dict[str, str] = {
    "window": "with a window|with a bright window",
    "painting": "with a picture on the wall|with a framed picture",
    "path": "with a path|with a footpath",
    "both": "with a window and a picture on the wall|with a big window",
}

THERE = (
    "there {be}|there {be}|there {be}|here {be}|you can see|"
    "I can see|we see|this picture shows|this is a scene with"
)
SEEN = "can be seen|is visible|is shown|can be found|is pictured"
SEEN_MANY = "can be seen|are visible|are shown|can be found|are pictured"
OPENINGS = "a picture of|a photo of|a view of|an image of|a drawing of|a scene with|looking at|a picture showing"

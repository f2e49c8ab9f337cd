"""The words that people use for what the drawn world holds. A verb that starts with = is a state: "parked"."""

# kind: singular/plural, the first the commonest.
NOUNS: dict[str, str] = {
    "dog": "dog/dogs puppy/puppies pup/pups hound/hounds",
    "cat": "cat/cats kitten/kittens kitty/kitties",
    "horse": "horse/horses pony/ponies",
    "cow": "cow/cows",
    "rabbit": "rabbit/rabbits bunny/bunnies hare/hares",
    "duck": "duck/ducks duckling/ducklings",
    "bird": "bird/birds",
    "car": "car/cars automobile/automobiles sedan/sedans taxi/taxis",
    "bus": "bus/buses coach/coaches school_bus/school_buses city_bus/city_buses",
    "boat": "boat/boats ship/ships vessel/vessels sailboat/sailboats sailing_boat/sailing_boats yacht/yachts "
            "motorboat/motorboats fishing_boat/fishing_boats",
    "plane": "plane/planes airplane/airplanes jet/jets aircraft/aircraft airliner/airliners",
    "ball": "ball/balls beach_ball/beach_balls",
    "kite": "kite/kites",
    "balloon": "balloon/balloons",
    "bear": "teddy_bear/teddy_bears bear/bears stuffed_bear/stuffed_bears teddy/teddies toy_bear/toy_bears",
    "flower": "flower/flowers blossom/blossoms daisy/daisies tulip/tulips",
    "mushroom": "mushroom/mushrooms toadstool/toadstools",
    "chair": "chair/chairs seat/seats",
    "sofa": "sofa/sofas couch/couches settee/settees",
    "lamp": "lamp/lamps floor_lamp/floor_lamps",
    "umbrella": "umbrella/umbrellas parasol/parasols",
    "tent": "tent/tents",
}

# A special word needs a special look: the pose or the colour that it asks for.
ONLY_IF: dict[str, str] = {
    "sailboat": "sail", "sailing boat": "sail", "yacht": "sail", "motorboat": "motor", "fishing boat": "motor",
    "beach ball": "striped", "daisy": "daisy", "tulip": "tulip", "taxi": "yellow", "school bus": "yellow",
    "city bus": "", "duckling": "yellow",
}  # fmt: skip

# kind pose (or kind zone, or kind alone): what it does.
VERBS: dict[str, str] = {
    "dog stand": "stand stand wait", "dog run": "run run race dash", "dog sit": "sit sit rest",
    "cat sit": "sit sit rest", "cat walk": "walk stroll wander", "cat lie": "lie rest lounge relax",
    "horse stand": "stand stand wait", "horse run": "run gallop trot", "horse graze": "graze",
    "cow stand": "stand", "cow graze": "graze", "rabbit sit": "sit sit rest", "rabbit hop": "hop jump leap",
    "duck land": "stand walk waddle", "duck water": "swim float paddle", "bird": "fly fly glide soar",
    "car park": "=parked =parked =stopped stand", "car drive": "drive drive travel roll",
    "bus park": "=parked =stopped wait", "bus drive": "drive drive travel roll",
    "boat sail": "sail sail float glide", "boat motor": "float drift cruise", "plane": "fly fly pass cruise",
    "ball land": "lie sit rest", "ball water": "float float bob drift", "kite": "fly fly float soar",
    "balloon": "float float drift hover", "bear": "sit sit rest", "flower": "grow bloom stand", "mushroom": "grow stand",
    "chair": "stand stand =placed", "sofa": "stand =placed", "lamp": "stand", "umbrella": "stand =open =opened",
    "tent": "stand =pitched =set_up",
}  # fmt: skip
MOVING = frozenset(["run", "race", "dash", "walk", "stroll", "wander", "gallop", "trot", "hop", "jump", "leap", "waddle", "drive", "travel", "roll"])
DOUBLED = frozenset(["sit", "run", "hop", "swim", "bob", "trot"])

# setting zone: where; "move" for what crosses the land.
PLACES: dict[str, str] = {
    "beach land": "on the beach|on a beach|on the sand|on a sandy beach|at the beach|by the sea|on the shore|by the ocean|"
                  "near the water|at the seaside|in the sand",
    "beach move": "across the sand|along the beach|along the shore|on the beach|down a sandy beach|by the sea",
    "beach water": "on the sea|in the water|off the beach|on the ocean|close to the shore|in the sea|along the coast",
    "beach air": "over the beach|above the sea|over the sand|in the sky|above a beach|over the shore|by the ocean",
    "field land": "in a field|in the grass|on the grass|in a grassy field|in a meadow|in a green field|on a meadow|"
                  "in the countryside|in a pasture|on green grass",
    "field move": "across a field|through the grass|across a meadow|over the grass|in a green field|in the countryside",
    "field air": "over a field|over the grass|above a meadow|in the sky|over green fields|above a grassy field|in the air",
    "street land": "on the street|on a city street|in the road|in town|on the road|in front of some buildings|in the city|"
                   "by some houses|on a street",
    "street move": "down the street|along the road|through town|past some buildings|down a city street|on the road",
    "street air": "over the street|above the road|over the town|in the air|above the street|over the road",
    "snow land": "in the snow|on the snow|in a snowy field|on snowy ground|on a winter day|in winter|in a snowy landscape|"
                 "in a winter landscape",
    "snow move": "through the snow|across the snow|over the snow|in a snowy field|on a winter day",
    "snow air": "over the snow|above a snowy field|in the winter sky|over a snowy landscape|in the sky|above the snow",
    "sea water": "on the sea|in the ocean|on the water|at sea|on the open sea|in the water|in the middle of the ocean|"
                 "on the waves|on the ocean",
    "sea air": "over the sea|above the ocean|over the water|in the sky|above the waves|over the open sea|high in the air",
    "lake water": "on a lake|in the water|on the lake|on calm water|in a lake|on the water|in a pond|across a lake",
    "lake air": "over a lake|above the water|over the lake|in the sky|above a lake|over the water|in the air",
    "room land": "in a room|on the floor|in the living room|inside a house|indoors|in a living room|"
                 "at home|inside",
    "room move": "across the floor|through the room|around the living room|in a room|inside a house",
    "room air": "in a room|in the air|in the living room|inside a house|indoors",
    "city land": "in the city|on a dark street|on the road|in the city at night|downtown|on a city street|under city lights|"
                 "in the dark",
    "city move": "through the city|down a dark street|along the road|through the night|downtown|past lit buildings",
    "city air": "over the city|above the city|in the night sky|above the dark street",
    "forest land": "in the woods|in a forest|in the forest|among the trees|on the forest floor|under the trees|"
                   "in front of some trees|in a clearing",
    "forest move": "through the woods|through a forest|between the trees|past some trees|in the forest",
    "forest air": "in the woods|in front of the trees|in a forest|among the trees|above the forest floor|in the air",
    "desert land": "in the desert|on the sand|in a desert|on dry land|on sandy ground|in the sand|"
                   "in the middle of the desert",
    "desert move": "across the desert|through the desert|over the sand|through the sand|across dry land",
    "desert air": "over the desert|above the desert|in the sky|over the sand|above the dunes|in the air",
    "park land": "in the park|in a park|on the grass|on the lawn|in a garden|on a green lawn|at the park|near some trees",
    "park move": "across the park|through a park|on the grass|across the lawn|in the park|through the garden",
    "park air": "over the park|over the lawn|in a park|in the air|over the grass|above a green park",
}

# The setting as a thing of its own: "a beach with ...".
SCENERY: dict[str, str] = {
    "beach": "a beach|a sandy beach|the seaside|a quiet beach", "field": "a field|a green meadow|a grassy field|farmland",
    "street": "a street|a city street|a quiet road|a town", "snow": "a snowy landscape|a snowy field|a winter scene",
    "sea": "the sea|open water|the ocean|a blue sea", "lake": "a lake|a calm lake|a large pond",
    "room": "a room|a living room|the inside of a house", "city": "a city at night|a dark street|a city skyline",
    "forest": "a forest|the woods|a forest clearing", "desert": "a desert|a dry desert|a sandy desert",
    "park": "a park|a green park|a garden with trees",
}  # fmt: skip

TIMES: dict[str, str] = {
    "day": "during the day|in daylight|on a nice day|in the daytime", "dull": "on a cloudy day|on a grey day|"
    "under a grey sky|on a dull day|under a cloudy sky", "sunset": "at sunset|in the evening|under an orange sky|at dusk|"
    "as the sun goes down|in the evening light", "night": "at night|under the stars|in the moonlight|late at night|"
    "under a dark sky|after dark",
}  # fmt: skip
CLEAR = "under a clear blue sky|on a sunny day|in the sunshine|on a clear day|under a blue sky"
CLOUDY = "under white clouds|with clouds in the sky|with a few clouds above"
FEATURES: dict[str, str] = {
    "mountains": "with mountains in the background|with mountains behind", "hills":
    "with hills in the background|with hills in the distance", "trees": "with trees in the background",
    "fence": "with a fence behind|by a wooden fence", "island": "with an island in the distance",
    "cactuses": "with cactuses behind|with some cactuses around", "window": "with a window|with a bright window",
    "painting": "with a picture on the wall", "path": "with a path", "both": "with a window and a picture on the wall",
}  # fmt: skip

RELATIONS: dict[str, str] = {
    "beside": "next to|beside|next to|by|near|close to|alongside", "near": "near|close to|not far from",
    "behind": "behind|in back of|behind", "before": "in front of", "above": "above|over|high above",
    "below": "below|under|beneath|underneath", "on": "on|on|on top of",
}  # fmt: skip

COLOUR_WORDS: dict[str, str] = {
    "grey": "grey|gray|grey|silver", "brown": "brown|brown|brown", "red": "red|red|red|bright red",
    "yellow": "yellow|yellow|bright yellow", "purple": "purple|purple|violet", "white": "white", "black": "black",
}  # fmt: skip
COUNTS: dict[int, str] = {2: "two|two|two|a pair of|a couple of", 3: "three|three|three|a group of|some|a few|several"}
SMALL, LARGE = "small|little|small|tiny", "big|large|big|huge"
OPENINGS = "a picture of|a photo of|a view of|an image of"

"""Words for the things of the drawn world, and for relations between them.

Alternatives are separated by bars, or by spaces where each is one word; `_` stands for a space inside a word.
"""

# kind: singular/plural, the most frequent first.
NOUNS: dict[str, str] = {
    "dog": "dog/dogs puppy/puppies pup/pups hound/hounds doggy/doggies",
    "cat": "cat/cats kitten/kittens kitty/kitties feline/felines",
    "horse": "horse/horses pony/ponies stallion/stallions",
    "cow": "cow/cows dairy_cow/dairy_cows cow/cattle",
    "rabbit": "rabbit/rabbits bunny/bunnies hare/hares",
    "duck": "duck/ducks duckling/ducklings",
    "bird": "bird/birds songbird/songbirds",
    "car": "car/cars automobile/automobiles sedan/sedans taxi/taxis",
    "bus": "bus/buses coach/coaches school_bus/school_buses city_bus/city_buses",
    "boat": "boat/boats ship/ships vessel/vessels sailboat/sailboats sailing_boat/sailing_boats yacht/yachts "
            "motorboat/motorboats fishing_boat/fishing_boats",
    "plane": "plane/planes airplane/airplanes jet/jets aircraft/aircraft airliner/airliners",
    "ball": "ball/balls beach_ball/beach_balls toy_ball/toy_balls",
    "kite": "kite/kites toy_kite/toy_kites",
    "balloon": "balloon/balloons party_balloon/party_balloons",
    "bear": "teddy_bear/teddy_bears bear/bears stuffed_bear/stuffed_bears teddy/teddies toy_bear/toy_bears",
    "flower": "flower/flowers blossom/blossoms bloom/blooms plant/plants daisy/daisies tulip/tulips",
    "mushroom": "mushroom/mushrooms toadstool/toadstools",
    "chair": "chair/chairs seat/seats wooden_chair/wooden_chairs",
    "sofa": "sofa/sofas couch/couches settee/settees loveseat/loveseats",
    "lamp": "lamp/lamps floor_lamp/floor_lamps standing_lamp/standing_lamps",
    "umbrella": "umbrella/umbrellas parasol/parasols sunshade/sunshades",
    "tent": "tent/tents camping_tent/camping_tents",
}

# A word that requires a pose or a colour.
ONLY_IF: dict[str, str] = {
    "sailboat": "sail",
    "sailing boat": "sail",
    "yacht": "sail",
    "motorboat": "motor",
    "fishing boat": "motor",
    "beach ball": "striped",
    "daisy": "daisy",
    "tulip": "tulip",
    "taxi": "yellow",
    "school bus": "yellow",
    "city bus": "",
    "duckling": "yellow",
    "wooden chair": "brown",
}

# kind and pose, kind and zone, or kind: verbs for what it does. A verb that starts with = is a state: "parked".
VERBS: dict[str, str] = {
    "dog stand": "stand stand wait",
    "dog run": "run run race dash",
    "dog sit": "sit sit rest",
    "cat sit": "sit sit rest",
    "cat walk": "walk stroll wander",
    "cat lie": "lie rest lounge relax",
    "horse stand": "stand stand wait",
    "horse run": "run gallop trot",
    "horse graze": "graze graze feed",
    "cow stand": "stand",
    "cow graze": "graze graze feed",
    "rabbit sit": "sit sit rest",
    "rabbit hop": "hop jump leap",
    "duck land": "stand walk waddle",
    "duck water": "swim float paddle",
    "bird": "fly fly glide soar",
    "car park": "=parked =parked =stopped stand",
    "car drive": "drive drive travel roll",
    "bus park": "=parked =stopped wait",
    "bus drive": "drive drive travel roll",
    "boat sail": "sail sail float glide",
    "boat motor": "float drift cruise",
    "plane": "fly fly pass cruise",
    "ball land": "lie sit rest",
    "ball water": "float float bob drift",
    "kite": "fly fly float soar",
    "balloon": "float float drift hover",
    "bear": "sit sit rest",
    "flower": "grow bloom stand",
    "mushroom": "grow stand",
    "chair": "stand sit",
    "sofa": "stand sit",
    "lamp": "stand",
    "umbrella": "stand =open =opened",
    "tent": "stand =pitched =set_up",
}
GRASSY = frozenset({"field", "park", "forest"})  # elsewhere nothing grazes, it only looks down
MOVING = frozenset((
    "dash", "drive", "gallop", "hop", "jump", "leap", "race",
    "roll", "run", "stroll", "travel", "trot", "waddle", "walk", "wander",
))  # says where to, not only where
STILL = frozenset(("lie", "rest", "sit", "stand", "wait"))  # says too little alone
DOUBLED = frozenset(("bob", "hop", "run", "sit", "swim", "trot"))  # run, running

# kind and pose, or kind: visible parts of the thing.
DETAILS: dict[str, str] = {
    "dog stand": "with its tail up|wearing a collar|with floppy ears",
    "dog run": "with its legs stretched|wearing a collar",
    "dog sit": "wearing a collar|with floppy ears|looking at the camera",
    "cat sit": "with green eyes|looking at the camera|with long whiskers",
    "cat walk": "with its tail up|with green eyes|looking at the camera",
    "cat lie": "with green eyes|looking at the camera|with its paws out",
    "horse stand": "with its head up|with a long tail",
    "horse run": "with its head up|with its legs stretched",
    "horse graze": "with its head down|looking at the ground",
    "cow stand": "with horns|looking at the camera",
    "cow graze": "with its head down|with horns",
    "rabbit": "with long ears|with a fluffy tail|with big ears",
    "duck": "with an orange beak|with an orange bill",
    "bird": "with its wings spread|flapping its wings",
    "car drive": "with a driver|with a person inside",
    "car park": "with black wheels|with shiny wheels",
    "bus": "with many windows|with a row of windows",
    "boat sail": "with two sails|with a tall mast|with its sails up",
    "boat motor": "with a cabin|with a small flag",
    "plane": "with a row of windows|with long wings",
    "kite": "with a long tail|with bows on its tail",
    "balloon": "on a string|with a long string",
    "bear": "with round ears|with its arms down",
    "flower potted": "in a pot|in a clay pot",
    "flower": "with green leaves|in full bloom|on a green stem",
    "mushroom": "with spots|with a spotted cap|with a thick stem",
    "chair": "with four legs|with a high back",
    "sofa": "with soft cushions|with wide arms",
    "lamp": "with a round base|with a thin stand",
    "umbrella plain": "on a pole|on a long pole",
    "umbrella striped": "with stripes|with broad stripes|on a pole",
    "tent": "with its door open|with an open entrance",
    "ball striped": "with stripes|with wide stripes",
}

# Adjectives of opinion, which no picture proves or disproves.
OPINIONS: dict[str, str] = {
    "dog": "cute|friendly|sweet|happy",
    "cat": "cute|pretty|sweet|curious",
    "horse": "beautiful|strong|fine",
    "cow": "calm|fine",
    "rabbit": "cute|fluffy|shy",
    "duck": "cute|lovely",
    "bird": "pretty|lovely",
    "car": "shiny|nice|old",
    "bus": "nice|old",
    "boat": "nice|old|pretty",
    "plane": "modern|shiny",
    "ball": "shiny|round",
    "kite": "pretty|colorful",
    "balloon": "shiny|round|bright",
    "bear": "cute|soft|cuddly",
    "flower": "pretty|beautiful|lovely",
    "mushroom": "pretty|round",
    "chair": "simple|plain",
    "sofa": "comfortable|cozy|soft",
    "lamp": "tall|modern",
    "umbrella": "colorful|open",
    "tent": "nice|cozy",
}

COLOUR_WORDS: dict[str, str] = {
    "grey": "grey|gray|grey|silver",
    "brown": "brown|brown|brown",
    "red": "red|red|red|bright red",
    "pink": "pink|pink|pink|bright pink",
    "orange": "orange",
    "yellow": "yellow|yellow|bright yellow",
    "purple": "purple|purple|violet",
    "white": "white",
    "black": "black",
}
COUNTS: dict[int, str] = {
    2: "two|two|two|a pair of|a couple of",
    3: "three|three|three|a group of|some|a few|several",
}
SMALL, LARGE = "small|little|small|tiny", "big|large|big|large|huge"

RELATIONS: dict[str, str] = {
    "beside": "next to|beside|by|near|close to|alongside|right next to|next to|to the side of|right beside",
    "near": "near|close to|not far from|a little away from",
    "behind": "behind|in back of|right behind|just behind",
    "before": "in front of|in front of|just in front of",
    "above": "above|over|high above|directly above|over the top of",
    "below": "below|under|beneath|underneath|right under",
    "on": "on|on|on top of",
}
ALONE = "alone|all alone|by itself|on its own"
TOGETHER = "side by side|next to each other|together|close together"

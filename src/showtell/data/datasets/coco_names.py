"""What people call COCO's 80 kinds of things: the words and phrases that count as a mention, singular and plural.

In the spirit of the synonyms of CHAIR (Rohrbach et al., "Object Hallucination in Image Captioning", 2018, section 3):
a mention must be safe to hold against the picture, so words that mean several things (`glass`, `board`) are left out.
"""

# kind: singulars; plurals follow by rule, except for those written in PLURALS.
SINGULARS: dict[str, str] = {
    "person": "person man woman boy girl child kid baby toddler lady guy player skier snowboarder surfer skateboarder "
    "rider batter pitcher catcher umpire officer policeman fireman chef bride groom boater biker cyclist worker "
    "pedestrian",
    "bicycle": "bicycle bike",
    "car": "car automobile sedan minivan suv taxi cab jeep",
    "motorcycle": "motorcycle motorbike scooter moped dirt_bike",
    "airplane": "airplane plane aeroplane airliner jet jetliner aircraft biplane",
    "bus": "bus double_decker",
    "train": "train locomotive tram trolley steam_engine",
    "truck": "truck pickup lorry pickup_truck fire_truck",
    "boat": "boat ship canoe kayak sailboat ferry gondola yacht raft rowboat",
    "traffic light": "traffic_light stoplight traffic_signal stop_light",
    "fire hydrant": "fire_hydrant hydrant",
    "stop sign": "stop_sign",
    "parking meter": "parking_meter",
    "bench": "bench pew",
    "bird": "bird duck goose seagull gull pigeon parrot owl swan eagle hawk ostrich chicken rooster peacock flamingo "
    "penguin hummingbird crow pelican",
    "cat": "cat kitten kitty",
    "dog": "dog puppy pup poodle bulldog dachshund pug",
    "horse": "horse pony foal stallion mare",
    "sheep": "sheep lamb ram ewe",
    "cow": "cow cattle bull calf ox steer",
    "elephant": "elephant",
    "bear": "bear cub polar_bear",
    "zebra": "zebra",
    "giraffe": "giraffe",
    "backpack": "backpack knapsack rucksack",
    "umbrella": "umbrella parasol",
    "handbag": "handbag purse",
    "tie": "tie necktie bow_tie",
    "suitcase": "suitcase luggage briefcase",
    "frisbee": "frisbee",
    "skis": "ski",
    "snowboard": "snowboard",
    "sports ball": "sports_ball soccer_ball tennis_ball basketball volleyball ball",
    "kite": "kite",
    "baseball bat": "baseball_bat",
    "baseball glove": "baseball_glove mitt baseball_mitt",
    "skateboard": "skateboard",
    "surfboard": "surfboard surf_board",
    "tennis racket": "tennis_racket tennis_racquet racket racquet",
    "bottle": "bottle",
    "wine glass": "wine_glass wineglass",
    "cup": "cup mug",
    "fork": "fork",
    "knife": "knife",
    "spoon": "spoon",
    "bowl": "bowl",
    "banana": "banana",
    "apple": "apple",
    "sandwich": "sandwich burger hamburger cheeseburger",
    "orange": "orange",
    "broccoli": "broccoli",
    "carrot": "carrot",
    "hot dog": "hot_dog hotdog",
    "pizza": "pizza",
    "donut": "donut doughnut",
    "cake": "cake cupcake cheesecake",
    "chair": "chair stool armchair recliner seat",
    "couch": "couch sofa loveseat futon",
    "potted plant": "potted_plant houseplant plant",
    "bed": "bed bunk_bed mattress",
    "dining table": "dining_table table desk",
    "toilet": "toilet urinal commode",
    "tv": "tv television television_set tv_screen",
    "laptop": "laptop notebook_computer laptop_computer",
    "mouse": "mouse computer_mouse",
    "remote": "remote remote_control controller wii_remote",
    "keyboard": "keyboard",
    "cell phone": "cell_phone cellphone mobile_phone smartphone phone iphone",
    "microwave": "microwave microwave_oven",
    "oven": "oven stove",
    "toaster": "toaster",
    "sink": "sink",
    "refrigerator": "refrigerator fridge",
    "book": "book",
    "clock": "clock",
    "vase": "vase",
    "scissors": "pair_of_scissors",
    "teddy bear": "teddy_bear teddy",
    "hair drier": "hair_drier hair_dryer blow_dryer hairdryer",
    "toothbrush": "toothbrush",
}

PLURALS: dict[str, str] = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "policeman": "policemen",
    "fireman": "firemen", "goose": "geese", "sheep": "sheep", "cattle": "cattle", "calf": "calves", "ox": "oxen",
    "aircraft": "aircraft", "knife": "knives", "luggage": "luggage", "broccoli": "broccoli",
    "computer mouse": "computer mice",
    "mouse": "mice",
    "pair of scissors": "pairs of scissors", "scissors": "scissors",
}  # fmt: skip


# In the singular mostly a colour.
AMBIGUOUS = {"orange"}


def plural(name: str) -> str:
    """The plural of an English word or phrase: `bus` is `buses`, `lady` is `ladies`."""
    if name in PLURALS:
        return PLURALS[name]
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


def _names(kind: str, singulars: str) -> list[str]:
    words = [word.replace("_", " ") for word in singulars.split()]
    return sorted({kind, *words, *map(plural, words)} - AMBIGUOUS)


NAMES: dict[str, list[str]] = {kind: _names(kind, singulars) for kind, singulars in SINGULARS.items()}

"""Flickr8k and Flickr30k with Karpathy's splits."""

from showtell.data.datasets.published import Published
from showtell.data.datasets.transfer import RemoteFile

# Hodosh, Young, Hockenmaier, "Framing Image Description as a Ranking Task" (2013).
FLICKR8K = Published(
    name="flickr8k",
    captions_json="dataset_flickr8k.json",
    pictures=(
        RemoteFile(
            "Flickr8k_Dataset.zip",
            ("https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/Flickr8k_Dataset.zip",),
            md5="f18a1e2920de5bd84dae7cf08ec78978",
            most=4 << 30,
        ),
    ),
    folders=(("Flicker8k_Dataset", "Flickr8k_Dataset", "Images"),),  # the first is how the archive spells it
    counts={"train": 6000, "val": 1000, "test": 1000},
    help=(
        "Flickr8k is given out after a form, https://forms.illinois.edu/sec/1713398: put Flickr8k_Dataset.zip, or the "
        "pictures, in a folder and set download.source to it"
    ),
)

# Young, Lai, Hodosh, Hockenmaier, "From image descriptions to visual denotations" (2014).
FLICKR30K = Published(
    name="flickr30k",
    captions_json="dataset_flickr30k.json",
    pictures=(
        RemoteFile(
            "flickr30k-images.tar.gz",
            ("https://uofi.app.box.com/shared/static/1cpolrtkckn4hxr1zhmfg0ln9veo6jpl.gz",),
            md5="985ac761bbb52ca49e0c474ae806c07c",
        ),
    ),
    folders=(("flickr30k-images", "flickr30k_images", "images"),),
    counts={"train": 29000, "val": 1014, "test": 1000},
    help=(
        "Flickr30k is given out after a form, https://shannon.cs.illinois.edu/DenotationGraph/: put "
        "flickr30k-images.tar.gz, or the pictures, in a folder and set download.source to it"
    ),
)

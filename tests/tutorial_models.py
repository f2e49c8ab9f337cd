"""The models and caption functions of the two tutorials, transcribed.

Names of classes and attributes are theirs, since checkpoints contain them.
"""

import json
import pickle
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

WORDS = ["a", "dog", "runs", "on", "grass", "red", "ball", "the", "boat", "sea"]
NORMALIZE = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Encoder(nn.Module):
    def __init__(self, resnet: nn.Module):
        super().__init__()
        self.enc_image_size = 14
        self.resnet = nn.Sequential(*list(resnet.children())[:-2])
        self.adaptive_pool = nn.AdaptiveAvgPool2d((14, 14))

    def forward(self, images: Tensor) -> Tensor:
        return self.adaptive_pool(self.resnet(images)).permute(0, 2, 3, 1)


class Attention(nn.Module):
    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int):
        super().__init__()
        self.encoder_att = nn.Linear(encoder_dim, attention_dim)
        self.decoder_att = nn.Linear(decoder_dim, attention_dim)
        self.full_att = nn.Linear(attention_dim, 1)

    def forward(self, encoder_out: Tensor, hidden: Tensor) -> Tensor:
        mixed = torch.relu(self.encoder_att(encoder_out) + self.decoder_att(hidden).unsqueeze(1))
        alpha = self.full_att(mixed).squeeze(2).softmax(dim=1)
        return (encoder_out * alpha.unsqueeze(2)).sum(dim=1)


class DecoderWithAttention(nn.Module):
    def __init__(self, attention_dim: int, embed_dim: int, decoder_dim: int, vocab_size: int, encoder_dim: int):
        super().__init__()
        self.attention = Attention(encoder_dim, decoder_dim, attention_dim)
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.dropout = nn.Dropout(0.5)
        self.decode_step = nn.LSTMCell(embed_dim + encoder_dim, decoder_dim)
        self.init_h = nn.Linear(encoder_dim, decoder_dim)
        self.init_c = nn.Linear(encoder_dim, decoder_dim)
        self.f_beta = nn.Linear(decoder_dim, encoder_dim)
        self.sigmoid = nn.Sigmoid()
        self.fc = nn.Linear(decoder_dim, vocab_size)


def attend_model(seed: int) -> tuple[Encoder, DecoderWithAttention, dict[str, int]]:
    torch.manual_seed(seed)
    word_map = {word: number for number, word in enumerate(WORDS, start=1)}
    word_map |= {"<unk>": len(WORDS) + 1, "<start>": len(WORDS) + 2, "<end>": len(WORDS) + 3, "<pad>": 0}
    decoder = DecoderWithAttention(8, 6, 10, len(word_map), 512)
    for name in ("<pad>", "<start>"):  # trained models do not generate them
        decoder.fc.bias.data[word_map[name]] = -50.0
    decoder.fc.weight.data *= 8  # words depend on the image
    decoder.fc.bias.data[word_map["<end>"]] = 1.0
    for layer in (decoder.f_beta, decoder.init_h, decoder.init_c, decoder.decode_step):
        for parameter in layer.parameters():
            parameter.data *= 4
    return Encoder(torchvision.models.resnet18()).eval(), decoder.eval(), word_map


def _aged(module: nn.Module) -> None:
    """Remove attributes that PyTorch 0.4 and torchvision 0.2 did not have, as in old checkpoints."""
    module._buffers.pop("num_batches_tracked", None)
    known = "training", "_parameters", "_buffers", "_modules"
    for name in [name for name in vars(module) if name.startswith("_") and name not in known]:
        del vars(module)[name]


def save_attend(folder: Path, seed: int = 0, modern: bool = True) -> tuple[Path, Path]:
    encoder, decoder, word_map = attend_model(seed)
    state = {"epoch": 7, "bleu-4": 0.24, "encoder": encoder, "decoder": decoder}
    state["decoder_optimizer"] = torch.optim.Adam(decoder.parameters())
    if not modern:
        for module in [*encoder.modules(), *decoder.modules()]:
            _aged(module)
    checkpoint, wordmap = folder / "BEST_checkpoint.pth.tar", folder / "WORDMAP.json"
    torch.save(state, checkpoint, _use_new_zipfile_serialization=modern)
    wordmap.write_text(json.dumps(word_map))
    return checkpoint, wordmap


@torch.no_grad()
def attend_caption(seed: int, path: Path, beam_size: int = 5) -> list[str]:
    """The tutorial's beam search for one image."""
    encoder, decoder, word_map = attend_model(seed)
    words = {number: word for word, number in word_map.items()}
    image = Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
    features = encoder(NORMALIZE(transforms.functional.to_tensor(image)).unsqueeze(0))
    k = beam_size
    encoder_out = features.view(1, -1, features.shape[-1]).expand(k, -1, -1)
    sequences, scores = torch.full((k, 1), word_map["<start>"]), torch.zeros(k, 1)
    mean = encoder_out.mean(dim=1)
    h, c = decoder.init_h(mean), decoder.init_c(mean)
    complete: list[tuple[float, list[int]]] = []
    step = 1
    while True:
        context = decoder.attention(encoder_out, h)
        context = decoder.sigmoid(decoder.f_beta(h)) * context
        h, c = decoder.decode_step(torch.cat([decoder.embedding(sequences[:, -1]), context], dim=1), (h, c))
        totals = scores + decoder.fc(h).log_softmax(dim=1)
        flat = totals[0] if step == 1 else totals.view(-1)
        best, places = flat.topk(k)
        rows, following = places // totals.shape[1], places % totals.shape[1]
        sequences = torch.cat([sequences[rows], following.unsqueeze(1)], dim=1)
        going = following != word_map["<end>"]
        complete += [(float(best[i]), sequences[i].tolist()) for i in range(len(going)) if not going[i]]
        k = int(going.sum())
        if k == 0 or step > 50:
            break
        sequences, scores = sequences[going], best[going].unsqueeze(1)
        h, c, encoder_out = h[rows[going]], c[rows[going]], encoder_out[rows[going]]
        step += 1
    return [words[number] for number in max(complete)[1][1:-1]]


class EncoderCNN(nn.Module):
    def __init__(self, resnet: nn.Module, embed_size: int):
        super().__init__()
        self.resnet = nn.Sequential(*list(resnet.children())[:-1])
        self.linear = nn.Linear(resnet.fc.in_features, embed_size)
        self.bn = nn.BatchNorm1d(embed_size, momentum=0.01)


class DecoderRNN(nn.Module):
    def __init__(self, embed_size: int, hidden_size: int, vocab_size: int):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embed_size)
        self.lstm = nn.LSTM(embed_size, hidden_size, 1, batch_first=True)
        self.linear = nn.Linear(hidden_size, vocab_size)


class Vocabulary:
    def __init__(self):
        self.word2idx: dict[str, int] = {}
        self.idx2word: dict[int, str] = {}
        self.idx = 0
        for word in ("<pad>", "<start>", "<end>", "<unk>", *reversed(WORDS)):
            self.word2idx[word], self.idx2word[self.idx] = self.idx, word
            self.idx += 1


def inject_model(seed: int) -> tuple[EncoderCNN, DecoderRNN, Vocabulary]:
    torch.manual_seed(seed)
    vocabulary = Vocabulary()
    encoder, decoder = EncoderCNN(torchvision.models.resnet18(), 6), DecoderRNN(6, 10, vocabulary.idx)
    encoder.bn.running_mean.normal_()
    decoder.linear.weight.data *= 8
    decoder.embed.weight.data *= 3
    decoder.linear.bias.data[:2] = -50.0
    return encoder.eval(), decoder.eval(), vocabulary


def save_inject(folder: Path, seed: int = 0) -> tuple[Path, Path, Path]:
    encoder, decoder, vocabulary = inject_model(seed)
    paths = folder / "encoder-5-3000.pkl", folder / "decoder-5-3000.pkl", folder / "vocab.pkl"
    torch.save(encoder.state_dict(), paths[0])
    torch.save(decoder.state_dict(), paths[1])
    paths[2].write_bytes(pickle.dumps(vocabulary))
    return paths


@torch.no_grad()
def inject_caption(seed: int, path: Path) -> list[str]:
    """The tutorial's greedy search, after the <start> that its trained models generate first."""
    encoder, decoder, vocabulary = inject_model(seed)
    image = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    features = encoder.resnet(NORMALIZE(transforms.functional.to_tensor(image)).unsqueeze(0)).flatten(1)
    _, states = decoder.lstm(encoder.bn(encoder.linear(features)).unsqueeze(1), None)
    said, word = [], torch.tensor([vocabulary.word2idx["<start>"]])
    for _ in range(19):
        hidden, states = decoder.lstm(decoder.embed(word).unsqueeze(1), states)
        word = decoder.linear(hidden.squeeze(1)).argmax(dim=1)
        if int(word) == vocabulary.word2idx["<end>"]:
            break
        said.append(vocabulary.idx2word[int(word)])
    return said

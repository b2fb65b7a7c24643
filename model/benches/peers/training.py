"""A training step of transformers' HubertModel: SDPA, fused AdamW, the loss of HuBERT at masked frames with the front-end's penalty; eager on the
CPU, under `torch.compile` on the GPU.

The argument names the case of training.rs, or is `gpu` for gpu.rs. The nano network takes torchaudio's log-mel frames, two side by side, where
HuBERT has convolutions, as Reprise's does.
"""

import json
import sys
import time

import torch
import torchaudio
import transformers
from torch.nn import functional as F

CASES = {
    "base-fp32": dict(rows=2, samples=160_000, clusters=500, dimension=256, half=False),
    "base-bf16": dict(rows=2, samples=160_000, clusters=500, dimension=256, half=True),
    "gpu": dict(rows=14, samples=200_000, clusters=500, dimension=256, half=True, device="cuda", passes=16),
    "nano": dict(rows=4, samples=128_000, clusters=100, dimension=64, half=False),
    "nano-bf16": dict(rows=4, samples=128_000, clusters=100, dimension=64, half=True),
}


class LogMel(torch.nn.Module):
    def __init__(self, bins):
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(n_fft=512, win_length=400, hop_length=160, n_mels=bins, center=False)

    def forward(self, wave):
        frames = (self.mel(wave) + 1e-6).log()
        frames = frames[:, :, : frames.shape[2] // 2 * 2]
        rows, bins, length = frames.shape
        return frames.view(rows, bins, length // 2, 2).permute(0, 3, 1, 2).reshape(rows, 2 * bins, length // 2)


def network(name):
    if name.startswith("nano"):
        config = transformers.HubertConfig(
            hidden_size=192, num_hidden_layers=4, num_attention_heads=4, intermediate_size=768, num_conv_pos_embeddings=32,
            conv_dim=(80,), conv_kernel=(1,), conv_stride=(1,), num_feat_extract_layers=1, hidden_dropout=0.05, attention_dropout=0.0,
            activation_dropout=0.0, feat_proj_dropout=0.05, layerdrop=0.0, attn_implementation="sdpa",
        )
        model = transformers.HubertModel(config)
        model.feature_extractor = LogMel(40)
        return model
    config = transformers.HubertConfig(
        hidden_dropout=0.1, attention_dropout=0.1, activation_dropout=0.0, feat_proj_dropout=0.1, layerdrop=0.0, attn_implementation="sdpa"
    )
    return transformers.HubertModel(config)


class Pretraining(torch.nn.Module):
    def __init__(self, name, clusters, dimension):
        super().__init__()
        self.hubert = network(name)
        self.final_proj = torch.nn.Linear(self.hubert.config.hidden_size, dimension)
        self.units = torch.nn.Parameter(torch.rand(clusters, dimension))
        self.hubert.feature_extractor.register_forward_hook(self.keep)
        self.penalised = not name.startswith("nano")

    def keep(self, _module, _inputs, output):
        self.features = output

    def forward(self, wave, mask, places, labels):
        x = self.hubert(wave, mask_time_indices=mask).last_hidden_state
        with torch.autocast(x.device.type, enabled=False):
            frames = F.normalize(self.final_proj(x.flatten(0, 1)[places].float()), dim=-1)
            logits = frames @ F.normalize(self.units, dim=-1).T / 0.1
            loss = F.cross_entropy(logits, labels)
            return loss + 10 * self.features.float().square().mean() if self.penalised else loss


def main():
    name = sys.argv[1]
    case = CASES[name]
    torch.manual_seed(1)
    device, passes = case.get("device", "cpu"), case.get("passes", 1)
    model = Pretraining(name, case["clusters"], case["dimension"]).train().to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, fused=True)
    wave = torch.randn(case["rows"], case["samples"], device=device)
    with torch.no_grad():
        frames = model.hubert.feature_extractor(wave[:1]).shape[2]
    mask = (torch.arange(frames, device=device) % 2 == 0).repeat(case["rows"], 1)
    places = mask.flatten().nonzero().squeeze(1)
    labels = torch.randint(case["clusters"], (len(places),), device=device)
    forward = model
    if device == "cuda":
        # Its own assignment by a mask would break the graph.
        spare = model.hubert.masked_spec_embed
        model.hubert._mask_hidden_states = lambda x, mask_time_indices, attention_mask=None: torch.where(
            mask_time_indices.unsqueeze(2), spare.to(x.dtype), x
        )
        forward = torch.compile(model)

    def step():
        total = 0.0
        for _ in range(passes):
            with torch.autocast(device, dtype=torch.bfloat16, enabled=case["half"]):
                loss = forward(wave, mask, places, labels) / passes
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        optimiser.zero_grad()
        return total.item()

    step()
    step()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"versions": versions}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = step()
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": loss}), flush=True)


main()

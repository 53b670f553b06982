"""The embedded model's recipe at toy size: it runs, survives interruption, gives a Wan folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mutoscope.bench.adherence.scene import Object, Scene
from mutoscope.errors import MutoscopeError, UserError
from mutoscope.export.mini.recipe import (
    BEFORE,
    CPU,
    MAIN,
    Budget,
    ClipShape,
    Optimisation,
    TuneRecipe,
    chosen,
)
from mutoscope.export.mini.stages import STAGES, Order, train
from mutoscope.export.mini.workplace import Workplace

if TYPE_CHECKING:
    from mutoscope.export.mini.training import Phase

REASON = "parity tests need the export extra: pip install -e '.[export]'"
torch = pytest.importorskip("torch", reason=REASON)
diffusers = pytest.importorskip("diffusers", reason=REASON)

pytestmark = pytest.mark.parity

STEPS = 4
TOY_OPTIMISATION = Optimisation(1e-3, ema=0.9, warmup=2)
TOY = replace(
    CPU,
    vae=replace(
        CPU.vae,
        model={**CPU.vae.model, "base_dim": 4, "decoder_base_dim": 4},
        optimisation=TOY_OPTIMISATION,
        crops=2,
        crop_size=16,
        crop_frames=5,
    ),
    decoder=TOY_OPTIMISATION,
    text=replace(
        CPU.text,
        model={
            **CPU.text.model,
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 16,
            "num_layers": 1,
            "num_heads": 2,
        },
        optimisation=TOY_OPTIMISATION,
        captions=4,
    ),
    denoiser=replace(
        CPU.denoiser,
        model={
            **CPU.denoiser.model,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "ffn_dim": 32,
            "num_layers": 2,
            "freq_dim": 16,
        },
        optimisation=TOY_OPTIMISATION,
        batch=2,
    ),
    judge=TuneRecipe(TOY_OPTIMISATION, batch=2),
    distilled=TuneRecipe(TOY_OPTIMISATION, batch=2),
    lora=TuneRecipe(TOY_OPTIMISATION, batch=2),
    shapes=(ClipShape(32, 32, 5, 0.7), ClipShape(48, 32, 1, 0.3)),
    shard=4,
)


def order(folder: Path, steps: int = STEPS, **settings: Any) -> Order:
    budgets = dict.fromkeys(STAGES, Budget(steps=steps))
    return Order(TOY, Workplace(folder), "cpu", budgets, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages were trained without interruption."""
    folder = tmp_path_factory.mktemp("mini") / "run"
    train(MAIN, order(folder))
    return folder


@pytest.fixture
def broken_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every third step of any training is interrupted, half done; counts the interruptions."""
    from mutoscope.export.mini.training import Trainer

    count, whole, broken = [0], Trainer._step, [0]

    def step(self: Any, batch: Any) -> None:
        count[0] += 1
        whole(self, batch)
        if count[0] % 3 == 0:
            broken[0] += 1
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_step", step)
    return broken


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_all_stages_give_a_wan_folder(trained: Path) -> None:
    pipe = diffusers.WanPipeline.from_pretrained(trained / "checkpoint" / "model")
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        "a red circle",
        height=32,
        width=48,
        num_frames=9,
        num_inference_steps=2,
        output_type="np",
        generator=torch.Generator().manual_seed(0),
    )
    assert made.frames.shape == (1, 9, 32, 48, 3)
    assert np.isfinite(made.frames).all()


def test_the_checkpoint_is_in_half_precision_with_measured_latents(trained: Path) -> None:
    from safetensors.torch import load_file

    folder = trained / "checkpoint" / "model"
    weights = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    vae = diffusers.AutoencoderKLWan.load_config(folder / "vae")
    assert len(vae["latents_std"]) == 16
    assert vae["latents_std"] != [1.0] * 16


def test_the_checkpoint_names_no_folder_of_this_machine(trained: Path) -> None:
    folder = trained / "checkpoint" / "model"
    told = {name for name, data in files(folder).items() if os.fsencode(trained.parent) in data}
    assert told == set()


def test_progress_is_logged_and_shown(trained: Path) -> None:
    log = (trained / "vae" / "log.txt").read_text().splitlines()
    assert log[-1].startswith(f"vae: step {STEPS} 100% ")
    assert " mse " in log[-1]
    assert (trained / "latents" / "log.txt").read_text().startswith(f"latents: step {STEPS} 100% ")
    sheets = [path.name for path in sorted((trained / "dit" / "samples").iterdir())]
    assert sheets == [f"{step + 1:07d}.png" for step in range(STEPS)]


def test_a_finished_stage_is_left_alone(trained: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.suffix == ".safetensors"}
    train(MAIN, order(trained))
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    trained: Path, tmp_path: Path, broken_steps: list[int]
) -> None:
    for _ in range(20):
        try:
            train(MAIN, order(tmp_path / "run", save_seconds=0))
            break
        except KeyboardInterrupt:
            continue
    assert broken_steps[0] >= 4
    broken, whole = files(tmp_path / "run" / "checkpoint"), files(trained / "checkpoint")
    assert broken.keys() == whole.keys()
    assert [name for name in whole if broken[name] != whole[name]] == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_processes_change_nothing(trained: Path, tmp_path: Path) -> None:
    alone = order(tmp_path / "run")
    train(MAIN, replace(alone, recipe=replace(TOY, workers=2)))
    assert files(tmp_path / "run" / "checkpoint") == files(trained / "checkpoint")


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
import test_mini_train as t
t.train(("vae",), t.order(Path({folder!r}), steps=12, save_seconds=0))
"""


def test_a_killed_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    train(("vae",), order(tmp_path / "whole", steps=12))
    folder = tmp_path / "killed"
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder))
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait_for(folder / "vae" / "state.safetensors", child)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (folder / "vae" / "model").exists()
    train(("vae",), order(folder, steps=12))
    assert "goes on at step" in (folder / "vae" / "log.txt").read_text()
    assert files(folder / "vae" / "model") == files(tmp_path / "whole" / "vae" / "model")


def wait_for(path: Path, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert child.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_disk_is_told_and_leaves_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    train(("text",), order(folder, steps=0))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="^work in .* stopped: No space left on device; once"):
        train(("vae",), order(folder, steps=2))
    assert not list((folder / "vae").glob("*.safetensors*"))
    assert not list((folder / "vae").glob(".*.partial"))
    assert not (folder / "vae" / "model").exists()


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "vae").mkdir(parents=True)
    (folder / "vae" / "state.safetensors").write_bytes(b"nonsense" * 9)
    with pytest.raises(UserError, match=r"state.safetensors cannot be read .*begins anew$"):
        train(("vae",), order(folder))


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    wild = Optimisation(float("inf"), ema=0.9)
    given = order(tmp_path / "run")
    recipe = replace(TOY, text=replace(TOY.text, optimisation=wild))
    with pytest.raises(MutoscopeError, match="^text: the weights are no longer numbers at step 4;"):
        train(("text",), replace(given, recipe=recipe))
    assert not (tmp_path / "run" / "text" / "state.safetensors").exists()


def test_shards_go_on_after_the_last_one(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    latents = tmp_path / "run" / "latents"
    shutil.rmtree(latents / "model")
    whole = files(latents / "shards")
    last = max(whole)
    (latents / "shards" / last).unlink()
    train(("latents",), order(tmp_path / "run"))
    assert f"latents: goes on at step {STEPS - 1}" in (latents / "log.txt").read_text()
    # the time it took stands in the header; the tensors are the file's end
    assert files(latents / "shards")[last][-4096:] == whole[last][-4096:]
    assert files(latents / "model") == files(trained / "latents" / "model")


def test_a_damaged_shard_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    folder = tmp_path / "run" / "latents"
    shard = min((folder / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1])
    shutil.rmtree(tmp_path / "run" / "dit")
    with pytest.raises(UserError, match=f"{shard} cannot be read .*; remove {folder} and train"):
        train(("dit",), order(tmp_path / "run"))


def test_a_stage_needs_the_ones_before(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no finished 'text' stage; run it first: python -m"):
        train(("dit",), order(tmp_path / "run"))


def test_what_is_learnt_is_what_the_pipeline_samples(trained: Path, tmp_path: Path) -> None:
    """Noise levels, times, signs, padding and shifts agree with diffusers' sampling.

    Shown one single latent over and over, the denoiser leads any noise to it.
    """
    from mutoscope.export.mini.denoiser import DenoiserTask
    from mutoscope.export.mini.samples import pipeline
    from mutoscope.export.mini.training import Run, Trainer

    wider = {"num_attention_heads": 4, "attention_head_dim": 24, "ffn_dim": 96}
    settings = replace(TOY.denoiser, batch=8, model={**TOY.denoiser.model, **wider})
    recipe = replace(TOY, denoiser=settings, shapes=TOY.shapes[:1])
    task = DenoiserTask(recipe, Workplace(trained), "cpu")
    values = task.latents[0].values
    values.copy_(values[:1].expand_as(values))
    task.sheet = lambda: None  # type: ignore[method-assign]
    run = Run(tmp_path, "cpu", Budget(steps=250), seed=0, save_seconds=1e9)
    Trainer(task, Optimisation(5e-3, ema=0.9, warmup=10), run).train()
    pipe = pipeline(task.vae, task.text_encoder, task.tokenizer, task.denoiser)
    found = pipe(
        "a red circle",
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=8,
        guidance_scale=1.0,
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).frames[0]
    likeness = torch.cosine_similarity(found.flatten(), values[0].float().flatten(), 0)
    # 0.98 after 300 steps, 0.8 after 150; a wrong sign or time leaves it near 0
    assert likeness > 0.9


def tuned(stage: str, trained: Path, folder: Path) -> Path:
    """The result of a stage that goes out from the trained denoiser, in a folder of its own.

    Four steps are enough for both halves of a distillation.
    """
    shutil.copytree(trained, folder)
    train((*BEFORE.get(stage, ())[1:], stage), order(folder, steps=4))
    return folder / stage / "model"


def test_a_distilled_lora_runs_in_four_steps(trained: Path, tmp_path: Path) -> None:
    from mutoscope.export.mini.samples import scheduler
    from safetensors.torch import load_file

    file = tuned("distill", trained, tmp_path / "run") / "four-steps.safetensors"
    # two blocks; two attentions of four layers, and a feed-forward of two; two matrices each
    assert len(load_file(file)) == 2 * (2 * 4 + 2) * 2
    pipe = diffusers.WanPipeline.from_pretrained(trained / "checkpoint" / "model")
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = scheduler(0.4)
    made = [four_steps(pipe)]
    assert pipe.scheduler.sigmas.tolist()[-2:] == pytest.approx([0.4, 0.0])
    pipe.load_lora_weights(file)
    made.append(four_steps(pipe))
    assert made[1].shape == (1, 5, 32, 32, 3)
    assert not np.array_equal(*made)


def four_steps(pipe: Any) -> Any:
    return pipe(
        "a star",
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=4,
        guidance_scale=1.0,
        output_type="np",
        generator=torch.Generator().manual_seed(0),
    ).frames


def test_a_judge_sees_frames_alike() -> None:
    """Whatever their number and size; and what is unknown of a clip does not count."""
    from mutoscope.export.mini.judge import FACTS, Judge, disagreement

    torch.manual_seed(0)
    judge = Judge(16)
    latents = torch.randn(1, 16, 1, 4, 6).expand(2, -1, 5, -1, -1)
    told = [judge(latents[:, :, i]) for i in (0, 4)]
    assert torch.equal(*told)
    assert told[0].shape == (2, len(FACTS))
    shown = torch.zeros(2, len(FACTS))
    unknown = shown.clone()
    unknown[:, -3:] = -1
    errors = [
        disagreement(judge, latents, facts, torch.Generator().manual_seed(0))
        for facts in (shown, unknown)
    ]
    assert errors[1] < errors[0]


def test_facts_are_those_of_the_scene() -> None:
    from mutoscope.export.mini.judge import FACTS, facts_shown
    from mutoscope.export.mini.latents import Latents

    scenes = [
        Scene((Object("star", "red", "right", "small"),)),
        Scene((Object("star", "red"), Object("sun", "blue")), relation="above"),
        Scene((Object("car", "red", "grow"),)),
    ]
    nothing = torch.empty(0)
    (found,) = facts_shown([Latents(TOY.shapes[0], nothing, nothing, scenes)], "cpu")
    true = [{FACTS[i] for i in row.eq(1).nonzero().flatten()} for row in found]
    assert true == [{"star", "small"}, {"star", "sun"}, {"car"}]
    assert found.eq(-1).sum(1).tolist() == [0, 3, 3]


def test_what_spins_is_not_judged() -> None:
    """By a judge of single frames it would come to stand still."""
    from mutoscope.export.mini.distill import facts_judged
    from mutoscope.export.mini.latents import Latents

    spinning, rising = Object("star", "red", "spin"), Object("star", "red", "up")
    scenes = [Scene((spinning,)), Scene((rising,))]
    scenes.append(Scene((spinning, Object("sun", "blue")), relation="above"))
    nothing = torch.empty(0)
    (found,) = facts_judged([Latents(TOY.shapes[0], nothing, nothing, scenes)], "cpu")
    assert found.eq(-1).all(1).tolist() == [True, False, True]
    assert not found[1].eq(-1).any()


def test_of_what_has_melted_only_circles_are_true() -> None:
    from mutoscope.export.mini.judge import FACTS, melted_facts

    star, circle = Object("star", "red"), Object("circle", "blue")
    alone = dict(zip(FACTS, melted_facts(Scene((star,))), strict=True))
    both = dict(zip(FACTS, melted_facts(Scene((star, circle), relation="above")), strict=True))
    assert (alone["star"], alone["circle"], both["circle"]) == (0, -1, 1)
    assert {alone[size] for size in ("small", "medium", "large")} == {-1}


def test_a_low_rank_change_can_be_left_out_and_is_nothing_at_first(trained: Path) -> None:
    from mutoscope.export.mini import low_rank
    from mutoscope.export.mini.denoiser import load_denoiser

    denoiser = load_denoiser(trained / "dit" / "model", "cpu")
    inputs = (torch.ones(1, 16, 1, 4, 4), torch.ones(1), torch.ones(1, 3, 16))
    with torch.no_grad():
        before = denoiser(*inputs, return_dict=False)[0]
        layers = low_rank.insert(denoiser, 2, low_rank.BLOCK, 0, "cpu")
        assert torch.equal(denoiser(*inputs, return_dict=False)[0], before)
        for layer in layers.values():
            layer.lora_B.weight.fill_(0.1)
        assert not torch.equal(denoiser(*inputs, return_dict=False)[0], before)
        with low_rank.unchanged(layers):
            assert torch.equal(denoiser(*inputs, return_dict=False)[0], before)
    learnt = {name for name, p in denoiser.named_parameters() if p.requires_grad}
    assert learnt == {f"{name}.lora_{part}.weight" for name in layers for part in "AB"}


def test_a_checkpoint_is_enough_to_train_a_sibling_from(trained: Path, tmp_path: Path) -> None:
    checkpoint, folder = trained / "checkpoint" / "model", tmp_path / "run"
    for stage in ("distill", "lora"):
        names = chosen(stage, adopted=True)
        train(names, order(folder, steps=2, checkpoint=checkpoint))
        assert list((folder / stage / "model").glob("*.safetensors"))


def test_a_decoder_goes_on_alone(trained: Path, tmp_path: Path) -> None:
    """The encoder stays what it is, bit for bit, and the checkpoint has the new decoder."""
    checkpoint, folder = trained / "checkpoint" / "model", tmp_path / "run"
    train(("decoder",), order(folder, steps=2, checkpoint=checkpoint))
    before = diffusers.AutoencoderKLWan.from_pretrained(checkpoint / "vae").state_dict()
    after = diffusers.AutoencoderKLWan.from_pretrained(folder / "decoder" / "model").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}

    train(("checkpoint",), order(folder))
    weights = "diffusion_pytorch_model.safetensors"
    made = folder / "checkpoint" / "model"
    halved = {name: tensor.half().float() for name, tensor in after.items()}
    kept = diffusers.AutoencoderKLWan.from_pretrained(made / "vae").state_dict()
    assert all(torch.equal(kept[name], halved[name]) for name in halved)
    transformers = [path / "transformer" / weights for path in (made, checkpoint)]
    assert transformers[0].read_bytes() == transformers[1].read_bytes()


def test_a_training_goes_on_from_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "checkpoint" / "model"
    train(MAIN, order(tmp_path / "all", steps=0, checkpoint=checkpoint))
    assert not (tmp_path / "all" / "vae" / "log.txt").exists()
    weights = Path("transformer", "diffusion_pytorch_model.safetensors")
    # no step was made, so what went in comes out
    made = tmp_path / "all" / "checkpoint" / "model"
    assert (made / weights).read_bytes() == (checkpoint / weights).read_bytes()
    assert [phase.until for phase in denoiser_phases(trained, checkpoint)] == [0, 1]
    assert [phase.until for phase in denoiser_phases(trained, None)] == [0.4, 1]

    part = tmp_path / "part"
    shutil.copytree(checkpoint / "vae", part / "vae")
    train(("vae",), order(tmp_path / "vae", steps=0, checkpoint=part))
    saved = diffusers.AutoencoderKLWan.from_pretrained(tmp_path / "vae" / "vae" / "model")
    begun = diffusers.AutoencoderKLWan.from_pretrained(part / "vae")
    assert all(map(torch.equal, saved.parameters(), begun.parameters()))


def denoiser_phases(folder: Path, checkpoint: Path | None) -> Sequence[Phase]:
    from mutoscope.export.mini.denoiser import DenoiserTask

    return DenoiserTask(TOY, Workplace(folder), "cpu", checkpoint).phases


def test_a_checkpoint_must_have_what_a_stage_needs(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="--from is for all, vae, decoder, judge, distill, lora, not for 'dit'"
    ):
        chosen("dit", adopted=True)
    with pytest.raises(UserError, match="it has no folder vae, which lora needs"):
        train(("lora",), order(tmp_path / "run", checkpoint=tmp_path))


def test_a_lora_goes_on(trained: Path, tmp_path: Path) -> None:
    """What went in comes out where no step is made; others are refused, and nothing is begun."""
    file = tuned("lora", trained, tmp_path / "first") / "outlines.safetensors"
    folder = tmp_path / "second"
    shutil.copytree(trained, folder)
    with pytest.raises(UserError, match=r"outlines.safetensors is of other layers or another"):
        train(("judge", "distill"), order(folder, steps=0, lora=file))
    assert not (folder / "distill" / "model").exists()
    train(("lora",), order(folder, steps=0, lora=file))
    assert (folder / "lora" / "model" / "outlines.safetensors").read_bytes() == file.read_bytes()
    with pytest.raises(UserError, match=r"nothing.safetensors cannot be read: No such file"):
        train(("distill",), order(folder, lora=tmp_path / "nothing.safetensors"))


def test_a_distillation_is_cut_where_the_scheduler_steps() -> None:
    from mutoscope.export.mini.distill import pieces

    wanted = [(1.0, 0.9139), (0.9139, 0.7592), (0.7592, 0.4), (0.4, 0.0)]
    assert np.allclose(pieces(), wanted, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*CLIPImageProcessor")
def test_a_checkpoint_keeps_a_first_frame_that_is_given(trained: Path) -> None:
    pipe = diffusers.WanImageToVideoPipeline.from_pretrained(
        trained / "checkpoint" / "model", image_encoder=None, image_processor=None
    )
    pipe.set_progress_bar_config(disable=True)
    assert pipe.config.expand_timesteps
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = pipe(
        image=image,
        prompt="it moves up",
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=2,
        output_type="np",
    ).frames[0]
    pipe.vae.to(torch.float32)
    latents = pipe.vae.encode(2 * image[:, :, None] - 1).latent_dist.mode()
    kept = pipe.vae.decode(latents).sample[0, :, 0].movedim(0, -1).detach().numpy() / 2 + 0.5
    assert np.abs(made[0] - kept).max() < 1e-3


def test_given_frames_have_no_noise_and_no_time() -> None:
    from mutoscope.export.mini.conditioning import by_token, levels, unknown, with_given

    level, latents = torch.tensor([0.5, 0.9]), torch.zeros(2, 16, 3, 4, 2)
    sigmas = levels(level, 3, given=True)
    assert sigmas.flatten().tolist() == pytest.approx([0, 0.5, 0.5, 0, 0.9, 0.9])
    assert by_token(sigmas, latents)[0].tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5]
    assert unknown(sigmas).flatten().tolist() == [0, 1, 1, 0, 1, 1]
    begun = with_given(latents, latents + 1, given=True)
    assert begun[0, 0, :, 0, 0].tolist() == [1, 0, 0]

    assert levels(level, 3, given=False) is level
    assert by_token(level, latents) is level
    assert unknown(level).flatten().tolist() == [1, 1]
    assert with_given(latents, latents + 1, given=False) is latents


def test_a_style_has_the_keys_that_diffusers_loads(trained: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(tuned("lora", trained, tmp_path / "run") / "outlines.safetensors")
    # two blocks, two attentions, four layers, two matrices
    assert len(weights) == 2 * 2 * 4 * 2
    down = weights["transformer.blocks.1.attn2.to_out.0.lora_A.weight"]
    up = weights["transformer.blocks.1.attn2.to_out.0.lora_B.weight"]
    assert (down.shape, up.shape) == ((8, 24), (24, 8))
    assert down.dtype == torch.float16
    assert up.abs().max() > 0


def test_an_evaluation_compares_with_the_world_itself(trained: Path, tmp_path: Path) -> None:
    from mutoscope.export.mini.evaluate import Sampling, evaluate

    sampling = Sampling(prompts=3, shape=ClipShape(64, 64, 17), steps=1, images=2)
    table = evaluate(trained / "checkpoint" / "model", tmp_path, sampling, "cpu").splitlines()
    cells = [line.strip("| ").split(" | ") for line in table]
    assert [row[0] for row in cells[2:]] == [
        "ground truth",
        "autoencoder",
        "1 steps",
        "2 from a first frame",
    ]
    assert cells[0][:3] == ["shape", "colour", "motion"]
    records = json.loads((tmp_path / "evaluation.json").read_bytes())
    truth, rebuilt, made, continued = records["rows"]
    assert truth["adherence"]["tallies"]["colour"] == {"right": 3, "asked": 3}
    assert made["adherence"]["clips"]["right"] == 0
    # an untrained autoencoder: some figure, but a poor one
    assert 0 < rebuilt["psnr"] < 20
    assert 0 < continued["psnr"] < 20
    assert (tmp_path / "evaluation.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "evaluation.md").read_text().splitlines() == table


def test_an_evaluation_can_add_a_lora(trained: Path, tmp_path: Path) -> None:
    from mutoscope.export.mini.evaluate import Sampling, evaluate

    checkpoint = trained / "checkpoint" / "model"
    style = tuned("lora", trained, tmp_path / "run") / "outlines.safetensors"
    sampling = Sampling(1, ClipShape(32, 32, 5), steps=2, guidance=1.0, terminal=0.4, images=1)
    for name, lora in (("plain", None), ("styled", style)):
        (tmp_path / name).mkdir()
        evaluate(checkpoint, tmp_path / name, sampling, "cpu", lora)
    plain, styled = ((tmp_path / n / "evaluation.png").read_bytes() for n in ("plain", "styled"))
    assert plain != styled
    with pytest.raises(UserError, match="there is no file .*none"):
        evaluate(checkpoint, tmp_path, sampling, "cpu", tmp_path / "none")


def test_an_evaluation_needs_a_checkpoint(tmp_path: Path) -> None:
    from mutoscope.export.mini.evaluate import Sampling, evaluate

    with pytest.raises(UserError, match="has no model_index.json: it is not a checkpoint; train"):
        evaluate(tmp_path, tmp_path, Sampling(1, ClipShape(32, 32, 5)), "cpu")

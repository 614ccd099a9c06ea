"""A pipeline that diffusers itself saved is understood, loaded, and draws the same picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import assay

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, Path]:
    """A tiny, untrained pipeline and the folder it was saved to."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    pipeline = DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=10))
    folder = tmp_path_factory.mktemp("diffusers") / "ddpm"
    pipeline.save_pretrained(folder)
    return pipeline, folder


def test_a_pipeline_is_described_with_its_components(saved: tuple[object, Path]) -> None:
    pipeline, folder = saved

    found = assay.inspect(folder)

    leading = found.leading
    assert leading is not None
    assert (leading.format, leading.architecture) == ("diffusers", "DDPMPipeline")
    assert {part.name: part.kind for part in leading.components} == {
        "scheduler": "diffusers.DDPMScheduler",
        "unet": "diffusers.UNet2DModel",
    }
    assert found.parameters == sum(weight.numel() for weight in pipeline.unet.parameters())  # type: ignore[attr-defined]


def test_a_loaded_pipeline_draws_the_same_picture(saved: tuple[object, Path]) -> None:
    import torch

    pipeline, folder = saved

    def draw(model: object) -> np.ndarray:
        model.set_progress_bar_config(disable=True)  # type: ignore[attr-defined]
        noise = torch.manual_seed(0)
        return model(generator=noise, num_inference_steps=2, output_type="np").images  # type: ignore[operator]

    assert np.array_equal(draw(assay.load(folder)), draw(pipeline))

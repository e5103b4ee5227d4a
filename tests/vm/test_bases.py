"""Every base makes an appliance that boots and passes.

Made anew or from cached layers, it has the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway import pipeline
from slipway.job import Workshop, prepare
from slipway.spec.model import Spec
from slipway.terminal.progress import Progress
from slipway.workflows.inspection import verify_reproducible

ROOT = Path(__file__).parents[2]
#: Appliances on this one are booted by the other tests here.
DEFAULT = Spec.model_fields["base"].default
OTHERS = [base for base in Workshop(root=ROOT).library.bases() if base != DEFAULT]


@pytest.mark.parametrize(
    "base", [DEFAULT, *(pytest.param(base, marks=pytest.mark.nightly) for base in OTHERS)]
)
def test_a_base_boots_and_is_the_same_again(base: str, tmp_path: Path) -> None:
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    shop = Workshop(root=tmp_path, progress=Progress(quiet=True))
    spec = shop.library.new("my-thing") / "appliance.yaml"
    with spec.open("a") as file:
        file.write(f"base: {base}\n")
    job = prepare(shop, shop.library.load("my-thing"), builder="mmdebstrap", architecture="amd64")
    release = pipeline.build(shop, job, boot=base != DEFAULT)
    assert release.manifest.boot_passed is (base != DEFAULT)
    assert set(verify_reproducible(shop, job)) == {"qcow2", "raw"}
    # What maintainer scripts would wait for is done meanwhile, with their words as they gave them.
    log = next((tmp_path / "build/my-thing/logs").rglob("base.log")).read_text()
    assert {
        "meanwhile: py3compile '-p' 'python3-minimal' '/usr/share/python3/'",
        "meanwhile: update-ca-certificates '--hooksdir' ''",
    } <= {line.strip() for line in log.splitlines()}

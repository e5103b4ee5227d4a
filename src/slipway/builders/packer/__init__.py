"""Build with Packer: the same files, packages and scripts, in a machine started from the base.

The rendered folder is ready for `packer build`: HCL2, scripts, and the files to lay over the root.
:meth:`Packer.complete` adds everything large or new each time: the locked packages, the base's
disk, a throwaway key. The base's disk comes from the default builder, for the same appliance
without its additions to the base.

Formats: https://developer.hashicorp.com/packer/docs/templates/hcl_templates. Packer 1.6 has its
plugins built in and knows no ``required_plugins``. Later ones get them, and ``packer init`` before
anything else.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from slipway.builders import Part, Source, Workplace, require_targets
from slipway.builders._hygiene import HYGIENE_CODE, check_hygiene
from slipway.builders._known import require_units
from slipway.builders._tree import (
    PACKAGE_CODE,
    TREE_CODE,
    context,
    package_lines,
    place_downloads,
    tree_files,
    workspace,
)
from slipway.builders.mmdebstrap import Mmdebstrap
from slipway.cache import sha256_of
from slipway.disk.files import ROOT_OFFSET
from slipway.errors import BuildError, HostError, SpecErrors, UsageError, Where
from slipway.formats import describe, load, require
from slipway.host import process
from slipway.host.accelerator import probe
from slipway.host.namespace import MOUNT, Namespace
from slipway.host.sshkey import make_key
from slipway.plan import Plan
from slipway.rendering.render import Rendered, RenderedFile
from slipway.rendering.templating import render

__all__ = ["Packer", "packer_version", "require_packer"]

#: The sources with templates -> the format of the base's disk that they start from. None: they
#: start from an image of the distribution, published there.
_BASES: Final[Mapping[str, str | None]] = {
    "amazon-ebs": None,
    "azure-arm": None,
    "googlecompute": None,
    "hyperv-iso": "vhdx",
    "proxmox-clone": "qcow2",
    "qemu": "qcow2",
    "virtualbox-ovf": "ova",
    "vsphere-clone": "ova",
}
_SCRIPTS: Final = ("10-packages.sh", "20-appliance.sh", "30-clean.sh")
_FOLDER: Final = MOUNT / "packer"
#: Packer's notation for a place in a file: "  on qemu.pkr.hcl line 12, in source ...".
_PLACE: Final = re.compile(r"^\s*on (\S+) line ([0-9]+)", re.MULTILINE)
#: The message of provision/known.sh for a missing unit, after the name of Packer's source.
_NO_UNIT: Final = re.compile(r"^(?:==>)?\s*\S+: slipway: no unit (\S+)\s*$", re.MULTILINE)
_SEED: Final = """\
#cloud-config
disable_root: false
users:
  - name: root
    ssh_authorized_keys: ["{key}"]
"""


@cache
def packer_version() -> tuple[int, ...] | None:
    """Return the version of the installed Packer; None if there is none."""
    path = shutil.which("packer", path=process.environment()["PATH"]) or shutil.which("packer")
    if path is None:
        return None
    said = process.run(
        [path, "version"], env={"CHECKPOINT_DISABLE": "1"}, check=False, timeout_s=20
    ).stdout.decode(errors="replace")
    found = re.search(r"Packer v([0-9]+)\.([0-9]+)\.([0-9]+)", said)
    return tuple(int(part) for part in found.groups()) if found else None


def require_packer() -> tuple[int, ...]:
    """Return the version of the installed Packer.

    Raises:
        HostError: Packer is not installed.
    """
    version = packer_version()
    if version is None:
        hint = "sudo apt-get install packer, or see https://developer.hashicorp.com/packer/install"
        raise HostError("packer is not installed", hint=hint)
    return version


class Packer:
    """See the module's description."""

    name = "packer"
    targets = tuple(_BASES)

    def parts(self, source: Source) -> tuple[Part, ...]:
        """Return the default builder's stages of the base (base, tree, disk), then Packer's
        (packer).
        """
        names = [f"{stem}.auto.pkrvars.hcl" for stem in _variable_files(source)]
        installer = ("packages/wheels.py",) if source.appliance.spec.pypi else ()
        qemu = source.appliance.base.architectures[source.lock.architecture].qemu["system"]
        packer = Part(
            kind="packer",
            reads=(
                "packer.pkr.hcl",
                "qemu.pkr.hcl",
                *names,
                "chroot.sh",
                "files",
                "downloads",
                "wheels",
                "setup",
                "provision",
            ),
            tools=("packer", f"qemu-system-{qemu}") if packer_version() else (),
            code=("builders/packer", *HYGIENE_CODE, *TREE_CODE, *PACKAGE_CODE, *installer),
            packages=source.packages,
        )
        return (*Mmdebstrap().parts(replace(source, bare=True)), packer)

    def render(self, source: Source, targets: Sequence[str] = ()) -> Rendered:
        """Return the configuration, the scripts and the files; for QEMU alone by default.

        Raises:
            UsageError: There is no such target, or the appliance has a read-only root or secrets.
            SpecErrors: The configuration would not work, or a file of variables does not fit it.
        """
        if source.appliance.spec.root.mode == "read-only":
            hint = f"invoke build {source.appliance.name}, without --builder, makes it"
            raise UsageError(
                f"{source.appliance.name} has a read-only root, which Packer's build cannot make",
                hint=hint,
            )
        if source.appliance.spec.secrets:
            hint = (
                f"invoke build {source.appliance.name}, without --builder, gives them to "
                "its setup scripts"
            )
            raise UsageError(
                f"{source.appliance.name} is built with secrets, which Packer's build is not given",
                hint=hint,
            )
        targets = tuple(dict.fromkeys(targets or ("qemu",)))
        require_targets(self.name, self.targets, targets)
        for target in targets:
            if _BASES[target] == "ova":
                require(load("ova"), source.appliance.name, source.appliance.spec.kernel)
        files = dict(Mmdebstrap().render(replace(source, bare=True)).files)
        files |= tree_files(source)
        values = _values(source, targets)
        templates = source.templates / "packer"
        for name in _SCRIPTS:
            text = render(templates / f"provision/{name}.j2", values)
            files[f"provision/{name}"] = RenderedFile(content=text.encode())
        files["provision/mirrors.sh"] = RenderedFile(
            content=(source.templates / "mmdebstrap/mirrors.sh").read_bytes()
        )
        files["provision/known.sh"] = RenderedFile(
            content=(templates / "provision/known.sh").read_bytes()
        )
        files["provision/base-packages"] = RenderedFile(
            content=package_lines(source.lock.base_packages)
        )
        files["provision/packages"] = RenderedFile(content=package_lines(source.lock.all_packages))
        files["provision/grub.cfg"] = RenderedFile(
            content=render(source.templates / "disk/grub.cfg.j2", values).encode()
        )
        files["README.md"] = RenderedFile(
            content=render(templates / "README.md.j2", values).encode()
        )
        files |= {
            name: RenderedFile(content=text)
            for name, text in self._configuration(source, targets, values, files).items()
        }
        return Rendered(dict(sorted(files.items())))

    def _configuration(
        self,
        source: Source,
        targets: Sequence[str],
        values: Mapping[str, Any],
        files: Mapping[str, RenderedFile],
    ) -> dict[str, bytes]:
        """Return the HCL2 files, checked.

        Raises:
            SpecErrors: The configuration would not work, or a file of variables does not fit it.
        """
        from slipway.builders.packer.checks import check_configuration, check_values
        from slipway.builders.packer.rendered import render_lines

        templates, appliance = source.templates / "packer", source.appliance
        texts = [render_lines(templates / "packer.pkr.hcl.j2", "packer.pkr.hcl", values)]
        texts += [
            render_lines(templates / f"sources/{name}.pkr.hcl.j2", f"{name}.pkr.hcl", values)
            for name in targets
        ]
        beside = {
            *files,
            "key",
            "key.pub",
            "seed/meta-data",
            "seed/user-data",
            "repository/Packages",
        }
        for name in _base_files(targets):
            beside |= {name, f"{name}.sha256"}
        errors = check_configuration(texts, beside, appliance)
        given = _variable_files(source)
        if not errors:
            shown = appliance.where.get((), Where(appliance.folder / "appliance.yaml")).path.parent
            errors += [
                error
                for path in given.values()
                for error in check_values(path, shown / path.name, texts)
            ]
        if errors:
            raise SpecErrors(errors)
        found = {text.name: text.text.encode() for text in texts}
        return found | {
            f"{stem}.auto.pkrvars.hcl": path.read_bytes() for stem, path in given.items()
        }

    def memory_mib(self, source: Source) -> int:
        """Return the memory for two disks (the base and the result) and the packages, in MiB.

        The packages take their space three times: repository, archive, installed.
        """
        download = sum(package.size for package in source.packages) // 2**20
        return Mmdebstrap().memory_mib(replace(source, bare=True)) + 8 * download + 1024

    def complete(
        self,
        directory: Path,
        plan: Plan,
        rendered: Rendered,
        source: Source,
        workplace: Workplace,
        targets: Sequence[str] = (),
    ) -> None:
        """Add to a written folder the packages, the base's disk and a new key."""
        targets = targets or ("qemu",)
        foreign = any(_BASES[target] is None for target in targets)
        packages = source.lock.all_packages if foreign else source.packages
        workplace.pool.fetch(packages, source.mirrors, workplace.logs / "fetch.log")
        workplace.pool.repository(
            packages, directory / "repository", suite=source.appliance.base.release
        )
        place_downloads(source, directory, workplace)
        key = make_key(directory / "key", "packer")
        (directory / "seed").mkdir()
        (directory / "seed/meta-data").write_text("instance-id: packer\n")
        (directory / "seed/user-data").write_text(_SEED.format(key=key))
        bare = replace(source, bare=True)
        wanted = _base_files(targets)
        if wanted:
            with Mmdebstrap().disk(plan, rendered, bare, workplace) as raw:
                room = 5 * sum(package.size for package in source.packages) + 512 * 2**20
                virtual_size = min(
                    source.appliance.spec.resources.disk_gib * 2**30,
                    -(-(raw.stat().st_size + room) // 2**20) * 2**20,
                )
                for name in wanted:
                    form, output = load(name.partition(".")[2]), directory / name
                    form.export(
                        raw,
                        output,
                        virtual_size=virtual_size,
                        log=workplace.logs / f"{form.name}.log",
                        about=describe(bare),
                    )
                    (directory / f"{name}.sha256").write_text(f"{sha256_of(output)}  {name}\n")

    @contextmanager
    def disk(
        self, plan: Plan, rendered: Rendered, source: Source, workplace: Workplace
    ) -> Iterator[Path]:
        """Run Packer in a namespace, and give the raw disk's path.

        The namespace's network leads nowhere, and the machine ends with the namespace.

        Raises:
            HostError: Packer is not installed.
            SpecErrors: The spec names units missing in the image.
            BuildError: Packer failed; the error has its output, and the place in the template if it
                names one.
        """
        version = require_packer()
        log = workplace.logs / "packer.log"
        with ExitStack() as stack:
            namespace = stack.enter_context(workspace(workplace, self.memory_mib(source)))
            folder = namespace.path(_FOLDER)
            rendered.write(folder)
            self.complete(folder, plan, rendered, source, workplace)
            with workplace.progress.step("packer") as step:
                accelerator = probe(source.lock.architecture)
                step.detail = f"Packer {'.'.join(map(str, version))}, {accelerator.name}"
                log.unlink(missing_ok=True)
                settings = {
                    "CHECKPOINT_DISABLE": "1",
                    "PACKER_CONFIG_DIR": str(workplace.cache.directory / "packer"),
                }
                if version >= (1, 7):
                    process.run(
                        ["packer", "init", folder], what="packer init", env=settings, log=log
                    )
                settings |= {"PACKER_CACHE_DIR": str(MOUNT / "packer-cache")}
                chosen = f"-var=accelerator={'kvm' if accelerator.name == 'kvm' else 'none'}"
                for words in (["validate"], ["build", "-color=false"]):
                    self._run(namespace, [*words, chosen, "."], settings, log, source)
            raw = folder / "output" / f"{source.appliance.name}.raw"
            # The machine could have made this disk so that its reader writes elsewhere.
            namespace.seal()
            with workplace.progress.step("hygiene") as step:
                self._release_orphans(namespace, raw, log)
                self._hygiene(namespace, raw, source)
                step.detail = (
                    f"passed, {raw.stat().st_size // 2**20} MiB, "
                    f"{raw.stat().st_blocks // 2048} MiB used"
                )
            yield raw

    def _run(
        self,
        namespace: Namespace,
        words: Sequence[str],
        settings: Mapping[str, str],
        log: Path,
        source: Source,
    ) -> None:
        command: list[str | Path] = ["sh", "-c", 'cd "$0" && exec packer "$@"', _FOLDER, *words]
        before = log.stat().st_size if log.exists() else 0
        ran = namespace.run(command, what=f"packer {words[0]}", env=settings, log=log, check=False)
        if not ran.returncode:
            return
        with log.open("rb") as file:
            file.seek(before)
            said = file.read().decode(errors="replace")
        _require_units(source, said)
        places = dict.fromkeys(_PLACE.findall(said))
        console = namespace.path(_FOLDER / "console.log")
        if console.exists():
            shutil.copyfile(console, log.with_name("packer-console.log"))
        named = "".join(
            f"\n  {name}:{line} is rendered from {_origin(source, name, int(line))}"
            for name, line in places
        )
        raise BuildError(
            f"packer {words[0]} failed: exit status {ran.returncode}{named}\n"
            f"{process.tail(log, 30)}",
            hint=f"the whole log is {log}",
        )

    def _release_orphans(self, namespace: Namespace, raw: Path, log: Path) -> None:
        """Finish with e2fsck(8) the work that a machine with open files left to its next mount.

        Its exit status 1 means "corrected".
        """
        inside = _FOLDER / "output" / raw.name
        checked = namespace.run(
            ["e2fsck", "-f", "-p", f"{inside}?offset={ROOT_OFFSET}"], log=log, check=False
        )
        if checked.returncode not in (0, 1):
            raise BuildError(
                f"the disk that Packer made is damaged: e2fsck ended with {checked.returncode}\n"
                f"{process.tail(log)}"
            )

    def _hygiene(self, namespace: Namespace, raw: Path, source: Source) -> None:
        """Unpack the finished disk and check it."""
        tree = MOUNT / "hygiene"
        namespace.run(["mkdir", tree])
        disk = f"{_FOLDER / 'output' / raw.name}?offset={ROOT_OFFSET}"
        namespace.run(["debugfs", "-R", f"rdump / {tree}", disk], what="reading the file system")
        check_hygiene(namespace, tree, source.appliance.name)
        namespace.run(["rm", "-rf", "--one-file-system", tree])


def _require_units(source: Source, said: str) -> None:
    """Refuse a spec if the machine reported units of it as missing.

    Raises:
        SpecErrors: Units are missing; each error has its place.
    """
    require_units(source, set(_NO_UNIT.findall(said)))


def _origin(source: Source, name: str, line: int) -> Where:
    """Return the place in the template of a rendered line; the line itself if it has no
    template.
    """
    from slipway.builders.packer.rendered import render_lines

    folder = source.templates / "packer"
    template = next(
        (path for path in (folder / f"{name}.j2", folder / f"sources/{name}.j2") if path.exists()),
        None,
    )
    if template is None:
        return Where(Path(name), line)
    origins = render_lines(template, name, _values(source, ("qemu",))).origins
    return Where(template, origins[min(line, len(origins)) - 1])


def _values(source: Source, targets: Sequence[str]) -> dict[str, Any]:
    """Return the values for the templates."""
    version = packer_version()
    qemu = source.appliance.base.architectures[source.lock.architecture].qemu
    return {
        **context(source),
        "current": version is None or version >= (1, 7),
        "sources": targets,
        "foreign_sources": [target for target in targets if _BASES[target] is None],
        "bases": _base_files(targets),
        "qemu_machine": qemu["machine"],
        "qemu_system": qemu["system"],
    }


def _base_files(targets: Sequence[str]) -> list[str]:
    """Return the files with the base's disk that the targets start from."""
    return sorted({f"base.{form}" for target in targets if (form := _BASES[target])})


def _variable_files(source: Source) -> dict[str, Path]:
    """Return the appliance's own files of variable values, by name without the ending."""
    ending = ".pkrvars.hcl"
    found = sorted(source.appliance.folder.glob(f"*{ending}"))
    return {path.name.removesuffix(ending).removesuffix(".auto"): path for path in found}

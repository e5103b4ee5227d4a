"""What stands in an appliance's tree, whatever builds it: the files over its root, what scripts that make it are told, and
the check that it holds nothing that no image may hold.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from slipway import __file__ as package_file
from slipway.builders import Source, Workplace
from slipway.disk.identity import disk_identity
from slipway.errors import BuildError
from slipway.namespace import Namespace, available_memory_mib
from slipway.packages.lock import LockedPackage
from slipway.packages.mirror import sources
from slipway.render import RenderedFile
from slipway.spec.library import Appliance, template_context
from slipway.spec.model import Services, Spec
from slipway.templating import render

__all__ = ["check_hygiene", "context", "dpkg_configuration", "package_lines", "tree_files", "workspace"]

_AFTER_FIRST_BOOT = """\
# This starts only when first boot has succeeded.
[Unit]
Requires=slipway-firstboot.service
After=slipway-firstboot.service
"""
#: Sockets and paths belong to the time before basic.target, which first boot comes after.
_LATE = """\
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
"""
USERS = "/usr/lib/sysusers.d/slipway-users.conf"
_DOCUMENTATION = {
    "docs": ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/lintian/*"),
    "man": ("/usr/share/man/*",),
    "locales": ("/usr/share/locale/*", "/usr/share/i18n/*"),
}


def context(source: Source) -> dict[str, Any]:
    """What the templates of every builder may use."""
    appliance, lock = source.appliance, source.lock
    architecture = appliance.base.architectures[lock.architecture]
    return {
        "spec": appliance.spec,
        "base": appliance.base,
        "lock": lock,
        "bare": source.bare,
        "architecture": lock.architecture,
        "epoch": lock.source_date_epoch,
        "disk": disk_identity(f"{appliance.name} {_digest(lock.base_packages)} {_digest(lock.packages)}"),
        "services": Services() if source.bare else appliance.spec.services,
        "users": "" if source.bare or not (appliance.spec.users or appliance.spec.groups) else USERS,
        "timezone": "" if source.bare else appliance.spec.timezone or "",
        "exposures": {} if source.bare else _exposures(appliance.spec.services),
        "setup": [] if source.bare else [f"setup/{path.name}" for path in appliance.setup],
        "root_partition_type": architecture.root_partition_type,
        "efi_files": architecture.efi_files,
        "bios": architecture.bios,
    }


def _exposures(services: Services) -> dict[str, int]:
    """How much each enabled service may be exposed, where not every exposure is allowed; of a timer, a path or a socket
    the service that it starts."""
    allowed = {name: services.exposure for name in services.enable} | {item.service: item.exposure for item in services.exposed}
    starts = re.compile(r"\.(service|timer|path|socket)$")
    return {f"{starts.sub('', name)}.service": level for name, level in allowed.items() if level < 100}


def _digest(packages: tuple[LockedPackage, ...]) -> str:
    return hashlib.sha256("".join(package.sha256 for package in packages).encode()).hexdigest()


def package_lines(packages: tuple[LockedPackage, ...]) -> bytes:
    """What dpkg-query says of them once they are installed."""
    return "".join(f"{package.name} {package.version} {package.architecture} installed\n" for package in packages).encode()


def dpkg_configuration(appliance: Appliance) -> str:
    """Which files of packages are left out, in the image's own dpkg configuration too (dpkg.cfg(5))."""
    left_out = [pattern for kind, patterns in _DOCUMENTATION.items() if kind not in appliance.spec.keep for pattern in patterns]
    left_out += appliance.base.left_out
    lines = [f"path-exclude={pattern}" for pattern in left_out]
    if "/usr/share/doc/*" in left_out:
        lines += ["path-include=/usr/share/doc/*/copyright"]
    return "".join(f"{line}\n" for line in lines)


def tree_files(source: Source) -> dict[str, RenderedFile]:
    """``files/``, which goes over the root, and ``setup/``, the scripts that are run then.

    The files are the guest's own, the base's, the mix-ins' and the appliance's, in this order.
    """
    appliance = source.appliance
    # A bare tree starts on any machine: it asks for nothing.
    spec = (
        appliance.spec.model_copy(update={"interfaces": appliance.spec.interfaces[:1], "parameters": ()}) if source.bare else appliance.spec
    )
    values = template_context(spec, appliance.base)
    files: dict[str, RenderedFile] = {}
    for item in (*source.guest, *appliance.base.files, *(() if source.bare else appliance.files)):
        if item.link is not None:
            rendered = RenderedFile(link=item.link)
        elif item.template:
            rendered = RenderedFile(content=render(item.path, values).encode(), mode=item.mode)
        else:
            rendered = RenderedFile(content=item.path.read_bytes(), mode=item.mode)
        files[f"files{item.target}"] = rendered
    for path in () if source.bare else appliance.setup:
        files[f"setup/{path.name}"] = RenderedFile(content=path.read_bytes(), mode=0o755)
    for path in () if source.bare else appliance.firstboot:
        files[f"files/usr/lib/slipway/firstboot.d/{path.name}"] = RenderedFile(content=path.read_bytes(), mode=0o755)
    definitions = [parameter.model_dump(mode="json") for parameter in spec.parameters]
    made = {
        "/usr/lib/slipway/parameters.json": json.dumps(definitions, indent=1) + "\n",
        "/etc/hostname": f"{appliance.name}\n",
        "/etc/fstab": render(source.templates / "disk/fstab.j2", context(source)),
        "/etc/apt/sources.list.d/debian.sources": sources(appliance.base, source.mirrors),
    }
    for service in () if source.bare else appliance.spec.services.enable:
        unit = service if "." in service else f"{service}.service"
        late = _LATE if unit.endswith((".socket", ".path")) else ""
        made[f"/etc/systemd/system/{unit}.d/10-slipway.conf"] = _AFTER_FIRST_BOOT + late
    made |= {} if source.bare else _settings(spec)
    if spec.timezone and not source.bare:
        files.setdefault("files/etc/localtime", RenderedFile(link=f"/usr/share/zoneinfo/{spec.timezone}"))
    for target, text in made.items():
        files.setdefault(f"files{target}", RenderedFile(content=text.encode()))
    return files


def _settings(spec: Spec) -> dict[str, str]:
    """Users and groups (sysusers.d(5), tmpfiles.d(5)), kernel settings (sysctl.d(5)) and the time zone, by path."""
    found = {}
    lines = [f"g {name}\n" for name in spec.groups]
    homes = []
    for user in spec.users:
        summary = (user.summary or user.name).replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'u {user.name} - "{summary}" {user.home} {user.shell}\n')
        lines += [f"m {user.name} {group}\n" for group in user.groups]
        homes += [f"d {user.home} 0750 {user.name} {user.name}\n"] if user.home != "/nonexistent" else []
    if lines:
        found[USERS] = "".join(lines)
    if homes:
        found["/usr/lib/tmpfiles.d/slipway-users.conf"] = "".join(homes)
    if spec.sysctl:
        found["/etc/sysctl.d/50-slipway.conf"] = "".join(f"{name} = {value}\n" for name, value in spec.sysctl.items())
    if spec.timezone:
        found["/etc/timezone"] = f"{spec.timezone}\n"
    return found


def check_hygiene(namespace: Namespace, tree: Path, name: str) -> None:
    """Look for identities, secrets and traces in a finished tree of a namespace.

    Raises:
        BuildError: There are some; all are named.
    """
    # The program needs nothing but the standard library; it runs inside, where every file can be read.
    program = Path(package_file).with_name("disk") / "hygiene.py"
    answer = namespace.run([sys.executable, "-I", program, tree], what="hygiene check", check=False)
    try:
        findings = json.loads(answer.stdout)
    except ValueError:
        raise BuildError("the hygiene check ended without a report", hint="this is a bug in slipway") from None
    if findings:
        lines = "\n".join(f"  {found['path']}: {found['detail']} ({found['rule']})" for found in findings)
        raise BuildError(
            f"the tree of {name} holds what no image may hold:\n{lines}", hint="remove it in a setup script, or make it on first boot"
        )


@contextmanager
def workspace(workplace: Workplace, memory_mib: int) -> Iterator[Namespace]:
    """A namespace with a network of its own to work in: in memory, or on disk where there is too little of that."""
    with ExitStack() as stack:
        directory = None
        if memory_mib > available_memory_mib() * 3 // 4:
            workplace.progress.note("memory", f"less than {memory_mib} MiB free: working on disk instead, which is slower")
            directory = stack.enter_context(workplace.cache.scratch())
        yield stack.enter_context(Namespace(network=True, memory_mib=memory_mib, directory=directory))

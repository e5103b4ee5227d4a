"""Turn a spec's settings into files of the image, by path.

They are for users, groups, timers, volumes, the kernel, time, language and keyboard.

What goes in: a spec. What comes out: texts. Nothing is read or written here.
"""

from __future__ import annotations

from slipway.spec.model import Spec

__all__ = ["USERS", "service_drop_in", "settings"]

_AFTER_FIRST_BOOT = """\
# This starts only when first boot has succeeded.
[Unit]
Requires=slipway-firstboot.service
After=slipway-firstboot.service
"""
#: Sockets and paths start before basic.target, and first boot comes after it.
_LATE = """\
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
"""
#: The service of a timer: it may do the work of its command, but gain no rights; files/ can add to
#: it.
_TIMED = """\
[Unit]
Description={summary}

[Service]
Type=oneshot
User={user}
ExecStart={command}
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
"""
#: Users and groups (sysusers.d(5)).
USERS = "/usr/lib/sysusers.d/slipway-users.conf"


def service_drop_in(name: str) -> tuple[str, str]:
    """Return the path and the text of the drop-in that makes an enabled unit wait for first
    boot.
    """
    unit = name if "." in name else f"{name}.service"
    late = _LATE if unit.endswith((".socket", ".path")) else ""
    return f"/etc/systemd/system/{unit}.d/10-slipway.conf", _AFTER_FIRST_BOOT + late


def settings(spec: Spec) -> dict[str, str]:
    """Return all files of a spec's settings, by path."""
    found = _users(spec)
    if spec.sysctl:  # sysctl.d(5)
        found["/etc/sysctl.d/50-slipway.conf"] = "".join(
            f"{name} = {value}\n" for name, value in spec.sysctl.items()
        )
    return found | _timers(spec) | _volumes(spec) | _language(spec)


def _users(spec: Spec) -> dict[str, str]:
    """Return the files for users and groups (sysusers.d(5)), and for homes (tmpfiles.d(5))."""
    lines = [f"g {name}\n" for name in spec.groups]
    homes = []
    for user in spec.users:
        summary = user.summary or user.name
        summary = summary.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'u {user.name} - "{summary}" {user.home} {user.shell}\n')
        lines += [f"m {user.name} {group}\n" for group in user.groups]
        if user.home != "/nonexistent":
            homes.append(f"d {user.home} 0750 {user.name} {user.name}\n")
    found = {USERS: "".join(lines)} if lines else {}
    if homes:
        found["/usr/lib/tmpfiles.d/slipway-users.conf"] = "".join(homes)
    return found


def _timers(spec: Spec) -> dict[str, str]:
    """Return the timers and the services they start (systemd.timer(5))."""
    found = {}
    for timer in spec.timers:
        unit = f"/etc/systemd/system/{timer.name}"
        summary = (timer.summary or timer.name).replace("%", "%%")
        found[f"{unit}.service"] = _TIMED.format(
            summary=summary, user=timer.user, command=timer.command
        )
        found[f"{unit}.timer"] = (
            f"[Unit]\nDescription={summary}\n\n[Timer]\nOnCalendar={timer.calendar}\n"
            "Persistent=yes\n\n[Install]\nWantedBy=timers.target\n"
        )
    return found


def _volumes(spec: Spec) -> dict[str, str]:
    """Return the definitions of the volumes' partitions, made on first boot (repart.d(5))."""
    found = {}
    for number, volume in enumerate(spec.volumes):
        size = "SizeMinBytes=256M\n"
        if volume.size_gib:
            size = f"SizeMinBytes={volume.size_gib}G\nSizeMaxBytes={volume.size_gib}G\n"
        found[f"/usr/lib/repart.d/60-{number}-{volume.name}.conf"] = (
            f"[Partition]\nType=linux-generic\nLabel={volume.name}\nFormat=ext4\n"
            f"CopyFiles={volume.path}:/\n{size}"
        )
    return found


def _language(spec: Spec) -> dict[str, str]:
    """Return the files for time zone, language and keyboard.

    Formats: locale.conf(5), Debian's locale.gen(5), keyboard(5).
    """
    found = {}
    if spec.timezone:
        found["/etc/timezone"] = f"{spec.timezone}\n"
    if spec.locale != "C.UTF-8":
        found["/etc/locale.conf"] = f"LANG={spec.locale}\n"
        found["/etc/locale.gen"] = f"{spec.locale} UTF-8\n"
    if spec.keyboard:
        layout, _, variant = spec.keyboard.rstrip(")").partition("(")
        found["/etc/default/keyboard"] = (
            f'XKBMODEL="pc105"\nXKBLAYOUT="{layout}"\nXKBVARIANT="{variant}"\nXKBOPTIONS=""\n'
            'BACKSPACE="guess"\n'
        )
    return found

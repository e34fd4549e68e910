"""Makes libseccomp's program of a profile, as runc does: reads JSON, writes the bytes of struct sock_filter.

Docker's and podman's conditions are resolved here once more, for a process without capabilities on a new kernel.
"""

import json
import os
import platform
import sys

import seccomp
from seccomp import Arg, SyscallFilter

GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
EPERM = 1


def action(name, errno):
    errno = EPERM if errno is None else errno
    return {
        "SCMP_ACT_KILL": lambda: seccomp.KILL,
        "SCMP_ACT_KILL_THREAD": lambda: seccomp.KILL,
        "SCMP_ACT_KILL_PROCESS": lambda: seccomp.KILL_PROCESS,
        "SCMP_ACT_TRAP": lambda: seccomp.TRAP,
        "SCMP_ACT_ERRNO": lambda: seccomp.ERRNO(errno),
        "SCMP_ACT_TRACE": lambda: seccomp.TRACE(errno),
        "SCMP_ACT_LOG": lambda: seccomp.LOG,
        "SCMP_ACT_ALLOW": lambda: seccomp.ALLOW,
    }[name]()


def condition(arg):
    operator = getattr(seccomp, arg["op"].removeprefix("SCMP_CMP_"))
    return Arg(arg["index"], operator, arg["value"], arg.get("valueTwo") or 0)


def applies(rule):
    here = GO_NAMES[platform.machine()]
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("caps") or here in excludes.get("arches", []):
        return False
    return not includes.get("arches") or here in includes["arches"]


profile = json.load(sys.stdin)
default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
program = SyscallFilter(default)
for rule in profile.get("syscalls") or []:
    chosen = action(rule["action"], rule.get("errnoRet"))
    if not applies(rule) or chosen == default:
        continue
    args = rule.get("args") or []
    indices = [arg["index"] for arg in args]
    alternatives = [[arg] for arg in args] if len(set(indices)) < len(indices) else [args]
    for name in rule["names"]:
        if seccomp.resolve_syscall(seccomp.Arch(), name) < 0:
            continue
        for alternative in alternatives:
            program.add_rule(chosen, name, *map(condition, alternative))
program.export_bpf(os.fdopen(sys.stdout.fileno(), "wb", closefd=False))

# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-playbook, which does once what it does anew in the process of each task and the same in each run.

That is to compile Jinja's templates, whose code depends on nothing but their text and how it is read, and to pack modules: both are kept
in a folder. The collection's plugins are imported before there is any task.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import marshal
import os
import pathlib
import sys
import typing as t

from ansible import constants
from ansible._internal._templating import _engine, _jinja_bits
from ansible.cli import playbook as cli
from ansible.executor.playbook_executor import PlaybookExecutor
from ansible.plugins.loader import action_loader, filter_loader, test_loader
from jinja2.environment import TemplateExpression

KEPT = pathlib.Path(os.environ["CERTOPS_KEPT"])
PLUGINS = pathlib.Path(os.environ["ANSIBLE_COLLECTIONS_PATH"], "ansible_collections", "certops", "kubernetes", "plugins")


class Environment(_jinja_bits.AnsibleEnvironment):
    """What it is in ansible-core, but that code of the same text is made once."""

    _expression: str | None = None  # which has become a syntax tree that is about to be compiled

    def compile(self, source: t.Any, *of: t.Any, **how: t.Any) -> t.Any:
        """The code of a template, or that of an expression's tree."""
        text = source if isinstance(source, str) else self._expression
        if text is None:
            return super().compile(source, *of, **how)
        kept = self._kept(text, source is not text, of, how)
        with contextlib.suppress(FileNotFoundError):
            return marshal.loads(kept.read_bytes())
        code = super().compile(source, *of, **how)
        whole = kept.with_suffix(f".{os.getpid()}")
        whole.write_bytes(marshal.dumps(code))
        whole.replace(kept)
        return code

    def compile_expression(self, source: str, undefined_to_none: bool = True) -> TemplateExpression:
        """An expression, which is not even read where there is code of it."""
        with contextlib.suppress(FileNotFoundError):
            code = marshal.loads(self._kept(source, True, (), {}).read_bytes())
            return TemplateExpression(self.template_class.from_code(self, code, self.make_globals(None)), undefined_to_none)
        self._expression = source
        try:
            return super().compile_expression(source, undefined_to_none)
        finally:
            self._expression = None

    def _kept(self, *what: t.Any) -> pathlib.Path:
        context = _jinja_bits._TemplateCompileContext.current(optional=True)
        read = [getattr(self, name) for name in _jinja_bits._TEMPLATE_OVERRIDE_FIELD_NAMES]
        key = repr((what, read, context and context.escape_backslashes))
        return KEPT / "templates" / hashlib.sha256(key.encode()).hexdigest()


class Executor(PlaybookExecutor):
    """What it is in ansible-core, but that all plugins which templates may name are there for each process of a task."""

    def run(self) -> t.Any:
        """Run the playbooks."""
        for kind, loader in (("filter", filter_loader), ("action", action_loader)):
            for path in (PLUGINS / kind).glob("[!_]*.py"):
                loader.get(f"certops.kubernetes.{path.stem}", class_only=kind == "action")
        for loader in (filter_loader, test_loader):
            list(loader.all())
        return super().run()  # type: ignore[no-untyped-call]  # ansible-core says no types


if __name__ == "__main__":
    sources = b"".join(path.read_bytes() for path in sorted((PLUGINS / "modules").glob("*.py")))
    zips = KEPT / hashlib.sha256(sources).hexdigest()  # ansible-core knows them by nothing but their names
    for folder in (KEPT / "templates", zips):
        folder.mkdir(exist_ok=True)
    pathlib.Path(vars(constants)["DEFAULT_LOCAL_TMP"], "ansiballz_cache").symlink_to(zips)
    # A task's process is over before there is garbage worth collecting, and what nobody looks at stays shared with the others.
    os.register_at_fork(before=gc.freeze, after_in_child=gc.disable)
    instead = (
        (_engine, "AnsibleEnvironment", Environment),
        (cli, "PlaybookExecutor", Executor),
        (constants, "DEFAULT_INTERNAL_POLL_INTERVAL", 0.005),  # seconds, of one thousandth
    )
    for module, name, value in instead:
        setattr(module, name, value)
    cli.main(["ansible-playbook", *sys.argv[1:]])

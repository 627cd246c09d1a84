# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

EVERY = 1  # second between two looks
SAID_EVERY = 15  # seconds
PATIENCE = 60.0  # seconds
LONGEST = 86400  # seconds; the module has limits of its own, after this one it is killed
OF_THE_JOB = ("ansible_job_id", "results_file", "started", "finished")
ENDED = (
    "The process that changed this node has ended without a result: it was killed, or the node was restarted. "
    "Run the playbook again; it finishes or undoes what is unfinished."
)


class FollowedAction(ActionBase):
    """Runs its module in the node's background, where it ends well whoever is lost, and follows it.

    A task's own C(poll) would try a node again that cannot be reached for as long as the module may take; here it has
    C(reconnect_timeout_seconds), and a process that is no more is not waited for.
    """

    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The module's result. Raises AnsibleConnectionFailure when the node is lost; the module goes on there."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        asked_for = self._task.async_val  # then Ansible itself follows it, or nobody
        if self._task.check_mode or asked_for:
            return {**result, **self._execute_module(task_vars=task_vars, wrap_async=bool(asked_for))}
        self._task.async_val = LONGEST
        begun = self._execute_module(task_vars=task_vars, wrap_async=True)
        self._task.async_val = asked_for
        return {**result, **(self._follow(str(begun["ansible_job_id"]), task_vars or {}) if "ansible_job_id" in begun else begun)}

    def _follow(self, job: str, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """The job's result, once it has one."""
        host = task_vars.get("inventory_hostname", "?")
        patience = self._patience()
        began = answered = sure = time.monotonic()  # sure: that its process is there
        while True:
            time.sleep(EVERY)
            try:
                seen = self._look(job, task_vars, doubt=time.monotonic() - sure > SAID_EVERY)
            except AnsibleConnectionFailure as error:
                away = time.monotonic() - answered
                if away > patience:
                    raise AnsibleConnectionFailure(f"it could not be reached for {away:.0f} s, {error}") from error
                Display().display(f"{host} cannot be reached, for {away:.0f} of {patience:.0f} s: {error}")
                self._connection.reset()
                sure = 0.0
                continue
            answered = time.monotonic()
            if seen["finished"]:
                return {key: value for key, value in seen.items() if key not in OF_THE_JOB}
            if answered - sure > SAID_EVERY:
                Display().display(f"{host} is being changed, {answered - began:.0f} s by now")
                sure = answered

    def _patience(self) -> float:
        try:
            return float(self._task.args["reconnect_timeout_seconds"])
        except (KeyError, TypeError, ValueError):
            return PATIENCE  # what is wrong with a value, the module says

    def _look(self, job: str, task_vars: dict[str, t.Any], doubt: bool) -> dict[str, t.Any]:
        """What the job has come to; with `doubt`, whether anybody is still at it."""
        runs = not doubt or self._is_running(job)
        seen = self._ask(job, task_vars)
        if "finished" not in seen:
            raise AnsibleConnectionFailure(f"half an answer: {seen.get('module_stderr') or seen.get('msg')}")
        killed = seen["finished"] and seen.get("failed") and ("could not find job" in str(seen.get("msg")) or "cmd" in seen)
        if killed or not (runs or seen["finished"]):
            return {"finished": True, "failed": True, "msg": ENDED}
        if seen["finished"]:
            self._ask(job, task_vars, mode="cleanup")
        return seen

    def _ask(self, job: str, task_vars: dict[str, t.Any], mode: str = "status") -> dict[str, t.Any]:
        untyped: t.Any = self  # to mypy, as ansible-core gives these two no types
        folder = untyped._remote_expand_user(untyped.get_shell_option("async_dir", default="~/.ansible_async"))
        arguments = {"jid": job, "mode": mode, "_async_dir": folder}
        seen = self._execute_module(module_name="ansible.legacy.async_status", module_args=arguments, task_vars=task_vars)
        return t.cast("dict[str, t.Any]", seen)

    def _is_running(self, job: str) -> bool:
        """Whether a process on the node has the job's number in its command line; the pattern does not match the one that asks."""
        number = job.partition(".")[0]
        asked = self._low_level_execute_command(f"grep -l '[{number[0]}]{number[1:]}' /proc/[0-9]*/cmdline 2>/dev/null")
        return bool(asked["stdout"].strip())

# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.certops.kubernetes.plugins.module_utils._clock import clock_bounds
from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere_records import believed


class ActionModule(ActionBase):
    """Calls the module, and says what that tells of the node's clock, and where it was asked: only the controller knows when and whom.

    Of a host outside of the cluster nothing is believed but what it says of users in kubeconfigs.
    """

    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The module's result, with `clock`."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        asked = time.time()
        result.update(self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val))
        if isinstance(result.get("node"), dict):
            result["clock"] = clock_bounds(result["node"], asked, time.time())
            names = task_vars or {}
            result["node"]["address"] = self._templar.template(names.get("ansible_host") or names.get("inventory_hostname"))
            if boolean(self._task.args.get("kubeconfigs_only") or False, strict=False):
                result = believed(result)
        return result

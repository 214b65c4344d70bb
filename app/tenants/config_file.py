"""The configuration of a tenant as a file that REGARDS' rs-delivery reads and writes, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app import __version__
from app.audit import Actor, AuditRecord
from app.codes import Code
from app.errors import SettingError
from app.tenants.configure import Configure, SharedKeyError
from app.tenants.definitions import Definitions
from app.tenants.ports import ConfigurationChange, ConfigurationStore
from app.tenants.values import Setting

MICROSERVICE = "rs-delivery"
FILE_NAME = "config-rs-delivery.json"

_MODULE = "delivery"
_MAX_ENTRIES = (
    100  # entries; each is written, noted and logged while the tenant's settings are locked
)
_KEY = "fr.cnes.regards.framework.modules.tenant.settings.domain.DynamicTenantSetting"


class NotAConfigurationError(SettingError):
    """The file is no configuration file."""

    code = Code.INVALID_SETTING


@dataclass(kw_only=True, slots=True)
class ModuleReport:
    """What came of a module of an imported file."""

    module: dict[str, Any]  # as the file names it
    errors: list[str] = field(default_factory=list)
    taken: bool = False  # whether anything of it was
    done: list[AuditRecord] = field(default_factory=list)

    @property
    def only_errors(self) -> bool:
        """Whether nothing of the module was taken."""
        return bool(self.errors) and not self.taken

    def body(self) -> dict[str, Any]:
        """Return it as REGARDS writes it."""
        return {
            "moduleInformation": self.module,
            "importErrors": self.errors,
            "onlyErrors": self.only_errors,
        }


def export(configure: Configure, tenant: str) -> dict[str, Any]:
    """Return the tenant's configuration as such a file; secrets are masked."""
    return {
        "microservice": MICROSERVICE,
        "modules": [
            {
                "module": {
                    "id": _MODULE,
                    "name": "Delivery module",
                    "description": "Delivers ordered products as one archive",
                    "version": __version__,
                    "author": "rs-delivery",
                    "legalOwner": "rs-delivery",
                    "documentation": "/docs",
                },
                "resetBeforeImport": True,
                "configuration": [
                    {"key": _KEY, "value": _entry(configure.definitions, setting)}
                    for setting in configure.listing(tenant)
                    if setting.is_set or configure.definitions.of(setting.name).of_regards
                ],
            }
        ],
    }


def exported(actor: Actor) -> AuditRecord:
    """Return what is noted of an export: it changes nothing, but tells all of a tenant at once."""
    return AuditRecord(
        actor=actor, action="export", subject="configuration", before=None, after=None
    )


def _entry(definitions: Definitions, setting: Setting) -> dict[str, Any]:
    definition = definitions.of(setting.name)
    return {
        "name": setting.name,
        "description": setting.description,
        "value": json.dumps(setting.value, ensure_ascii=False),
        "defaultValue": json.dumps(setting.default, ensure_ascii=False),
        "className": definition.java_class,
        "containsSensitiveParameters": definition.sensitive,
    }


async def import_file(
    configure: Configure, store: ConfigurationStore, actor: Actor, content: Any
) -> list[ModuleReport]:
    """Set what the file names, all that can be; return what came of each of its modules.

    `content` is the decoded JSON. With `resetBeforeImport`, what a module doesn't name is put back
    to its default. Raises NotAConfigurationError.
    """
    modules = list(_modules(content))
    async with store.change(actor.tenant) as change:
        reports = [await _import(configure, change, actor, module) for module in modules]
    await configure.take_effect(*(done for report in reports for done in report.done))
    return reports


def _modules(content: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(content, dict) or not isinstance(content.get("modules"), list):
        raise NotAConfigurationError('the file must be a JSON object with a list "modules"')
    microservice = content.get("microservice")
    if microservice != MICROSERVICE:
        raise NotAConfigurationError(
            f'the file must be of the microservice "{MICROSERVICE}"'
            + (f", not {microservice[:100]!r}" if isinstance(microservice, str) else "")
        )
    entries = 0
    for number, module in enumerate(content["modules"], start=1):
        if (
            not isinstance(module, dict)
            or not isinstance(module.get("module"), dict)
            or not isinstance(module.get("configuration", []), list)
        ):
            raise NotAConfigurationError(
                f'module {number} must be an object with "module" and a list "configuration"'
            )
        entries += 1 + len(module.get("configuration", []))
        if entries > _MAX_ENTRIES:
            raise NotAConfigurationError(f"the file must not have more than {_MAX_ENTRIES} entries")
        yield module


async def _import(
    configure: Configure, change: ConfigurationChange, actor: Actor, module: dict[str, Any]
) -> ModuleReport:
    report = ModuleReport(module=module["module"])
    if report.module.get("id") != _MODULE:
        report.errors.append(f'there is no such module here; there is "{_MODULE}"')
        return report
    resets = module.get("resetBeforeImport") is True
    refused: dict[int, str] = {}
    steps = _steps(
        module.get("configuration", []), refused, known=configure.definitions.names, resets=resets
    )

    async def take(number: int) -> None:
        step = steps[number]
        if step.resets:
            report.done += await configure.unset(change, actor, step.name)
        else:
            report.done.append(await configure.set(change, actor, step.name, step.value))
            report.taken = True

    waiting = []
    for number in steps:
        try:
            await take(number)
        except SharedKeyError:
            waiting.append(number)  # server and bucket go together: once the other one is changed
        except SettingError as error:
            refused[number] = f"entry {number}: {error}"
    for number in waiting:
        try:
            await take(number)
        except SettingError as error:
            asked = "resetBeforeImport" if steps[number].resets else f"entry {number}"
            refused[number] = f"{asked}: {error}"
    report.errors += [refused[number] for number in sorted(refused)]
    report.taken = report.taken or (resets and not report.errors)
    return report


@dataclass(frozen=True, slots=True)
class _Step:
    """One change that a file asks for."""

    name: str
    value: Any = None
    resets: bool = False


def _steps(
    entries: list[Any], refused: dict[int, str], *, known: Sequence[str], resets: bool
) -> dict[int, _Step]:
    """Return what a module's entries ask for, by their numbers; what is none is refused."""
    steps: dict[int, _Step] = {}
    for number, item in enumerate(entries, start=1):
        try:
            steps[number] = _Step(*_named(item))
        except SettingError as error:
            refused[number] = f"entry {number}: {error}"
    if resets:
        named = {step.name for step in steps.values()}
        left = [name for name in known if name not in named]
        steps |= {len(entries) + n: _Step(name, resets=True) for n, name in enumerate(left, 1)}
    return steps


def _named(item: Any) -> tuple[str, Any]:
    """Return name and value of an entry. Raises NotAConfigurationError."""
    value = item.get("value") if isinstance(item, dict) else None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise NotAConfigurationError('it must be an object with "key" and a "value" with a name')
    if item.get("key") != _KEY:
        raise NotAConfigurationError(f'its key must be "{_KEY}"')
    if "value" not in value:
        raise NotAConfigurationError(f"{value['name'][:100]}: it has no value")
    inner = value["value"]
    if isinstance(inner, str):
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError):
            # A text that was not put into quotes once more is meant as it is.
            return value["name"], inner
    return value["name"], inner

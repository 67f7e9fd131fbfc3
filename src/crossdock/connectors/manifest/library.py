"""The providers there are: every `providers/<code>/manifest*.yaml`, several versions side by side."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from crossdock.connectors.manifest.errors import InvalidManifestError, UnknownProviderError
from crossdock.connectors.manifest.loader import load_manifest
from crossdock.connectors.manifest.model import Manifest
from crossdock.kit.errors import Fault

_PROVIDERS = Path(str(files("crossdock") / "connectors" / "providers"))


class ProviderLibrary:
    """Finds manifests by code and version; they are read when the first is asked for, and kept."""

    def __init__(self, folders: Iterable[Path] = (_PROVIDERS,)) -> None:
        self._folders = tuple(folders)

    @classmethod
    def with_folders(cls, folders: Iterable[str]) -> "ProviderLibrary":
        """The providers that we ship, and those in these folders."""
        return cls((_PROVIDERS, *map(Path, folders)))

    @cached_property
    def _by_code(self) -> dict[str, dict[str, Manifest]]:
        """Raises InvalidManifestError."""
        found: dict[str, dict[str, Manifest]] = {}
        for path in self._paths():
            manifest = load_manifest(path)
            _check_place(path, manifest, found.get(manifest.code, {}))
            found.setdefault(manifest.code, {})[manifest.version] = manifest
        return {
            code: dict(sorted(versions.items(), key=lambda one: _order(one[0]), reverse=True))
            for code, versions in sorted(found.items())
        }

    def all(self) -> list[Manifest]:
        """The newest version of each provider, by code."""
        return [next(iter(versions.values())) for versions in self._by_code.values()]

    def versions(self, code: str) -> list[Manifest]:
        """All versions of a provider, newest first. Raises UnknownProviderError."""
        try:
            return list(self._by_code[code].values())
        except KeyError:
            raise UnknownProviderError(f"There is no provider {code[:80]!r}; the list of providers has all.") from None

    def find(self, code: str, version: str | None = None) -> Manifest:
        """One version of a provider, the newest unless said. Raises UnknownProviderError."""
        versions = self.versions(code)
        if version is None:
            return versions[0]
        for manifest in versions:
            if manifest.version == version:
                return manifest
        raise UnknownProviderError(
            f"The provider {code} has no version {version[:20]!r}; it has {', '.join(one.version for one in versions)}."
        )

    def _paths(self) -> Iterator[Path]:
        for folder in self._folders:
            yield from sorted(folder.glob("*/manifest*.yaml"))


def _check_place(path: Path, manifest: Manifest, others: dict[str, Manifest]) -> None:
    source = f"{path.parent.name}/{path.name}"
    if manifest.code != path.parent.name:
        fault = Fault("/code", f"is {manifest.code!r}, and the folder is {path.parent.name!r}: they must be the same.")
        raise InvalidManifestError(source, ((1, fault),))
    if manifest.version in others:
        raise InvalidManifestError(source, ((1, Fault("/version", f"{manifest.version} is in another file, too.")),))


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))

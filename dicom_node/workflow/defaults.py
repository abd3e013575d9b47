"""Settings without a file: each installed bundle that is no alternative is a pipeline."""

from __future__ import annotations

from dicom_node.analysis.manifest import FILE_NAME, read_manifest
from dicom_node.errors import ConfigurationError
from dicom_node.settings import Match, Pipeline, Settings


def default_settings() -> Settings:
    """Make settings from the environment and the installed bundles.

    Raises
    ------
    ConfigurationError, BundleError
    """
    settings = Settings()
    folder = settings.analysis.models
    manifests = [read_manifest(path.parent) for path in sorted(folder.glob(f"*/{FILE_NAME}"))]
    wanted = [manifest for manifest in manifests if not manifest.alternative]
    if not wanted:
        raise ConfigurationError(f"{folder} holds no model bundle")
    pipelines = [Pipeline(name=m.name, bundle=m.name, match=Match(contrasts=m.contrasts)) for m in wanted]
    return settings.model_copy(update={"pipelines": tuple(pipelines)})

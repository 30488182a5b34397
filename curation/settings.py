"""All settings: command-line flag > `REFURBISH_*` > `refurbish.toml` > default."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from curation.errors import ConfigError, place, shorten
from curation.types import VIOLATIONS

DEFAULT_FILE = Path("refurbish.toml")


class Settings(BaseSettings):
    """Frozen; unknown keys are errors. Secrets print as asterisks."""

    model_config = SettingsConfigDict(env_prefix="REFURBISH_", frozen=True, extra="forbid")

    home: Path = Field(Path("refurbish-data"), description="folder of the embedded database and of all stored files")
    database_url: str = Field("", description="SQLAlchemy URL; empty = SQLite in `home`")
    env: Literal["development", "production"] = "development"

    host: str = Field("127.0.0.1", description="address the service listens on")
    port: int = Field(8765, ge=1, le=65535)
    public_url: str = Field(
        "", description="URL under which browsers and Label Studio reach the service; empty = http://host:port"
    )
    webhook_secret: SecretStr = Field(SecretStr(""), description="secret header value expected from Label Studio")
    webhook_secret_previous: SecretStr = Field(SecretStr(""), description="also accepted, during rotation")
    webhook_limit_bytes: int = Field(32 * 1024 * 1024, ge=16 * 1024 * 1024)
    webhook_wait_s: float = Field(5.0, gt=0, description="seconds a delivery waits for the database before it is answered 503")
    cors_origins: str = Field("*", description="Access-Control-Allow-Origin of photos")
    secret_key: SecretStr = Field(SecretStr(""), description="signs cookies; empty = a random one kept in `home`")
    login_limit: str = Field("10/5 minutes", description="attempts to sign in from one address")
    api_limit: str = Field("1200/minute", description="requests of one person or token")

    label_studio_url: str = ""
    label_studio_token: SecretStr = SecretStr("")
    label_studio_project: str = Field("Refurbish review", min_length=3, description="project title")
    reconcile_every_s: float = Field(60.0, gt=0, description="seconds between reconciliations")

    lease_s: float = Field(60.0, gt=0, description="seconds a worker owns a job without a heartbeat")
    poll_s: float = Field(0.2, gt=0, description="seconds between looks for a job when idle")

    violations: tuple[str, ...] = Field(
        VIOLATIONS,
        description="the policy's violation categories, in head order",
    )
    review_batch: int = Field(300, ge=1, description="listings in one review batch")
    audit_share: float = Field(0.12, ge=0, le=1, description="share of a batch drawn uniformly, to measure noise without bias")
    violation_share: float = Field(0.10, ge=0, le=1, description="share of a batch that was reported or that the model flags")
    repair_share: float = Field(
        0.2, ge=0, le=1, description="share of a batch drawn from the likely errors, at most, so that repair can be certified"
    )
    blind_share: float = Field(0.05, ge=0, le=1, description="share of a batch shown without suggestion")
    second_opinion_share: float = Field(0.1, ge=0, le=1, description="share of a batch that may be second opinions, at most")

    retrain_min_corrections: int = Field(100, ge=1, description="distinct corrected listings since the last run")
    retrain_min_per_question: int = Field(20, ge=0, description="decisions on a question before its head is judged by them")
    retrain_cooldown_s: float = Field(3600.0, ge=0, description="seconds between automatic runs")
    gate_margin: float = Field(0.02, ge=0, le=1, description="how much lower overall accuracy may be and still count as no worse")
    gate_confidence: float = Field(
        0.5, ge=0.5, lt=1, description="how sure it must be that a challenger is better; 0.5 = its accuracy is higher"
    )
    gate_max_bytes: int = Field(500_000_000, ge=1, description="largest artifact that may be released")
    gate_max_ap_loss: float = Field(
        0.005,
        ge=0,
        le=1,
        description="average precision of a violation that the file in whole numbers may lose and still be served",
    )
    gate_max_accuracy_loss: float = Field(0.002, ge=0, le=1, description="category accuracy that it may lose")
    precision: Literal["int8", "fp32"] = Field("int8", description="which file scores: whole numbers where approved, or floats")
    gate_max_latency_ms: float = Field(500.0, gt=0, description="slowest p95 of scoring one listing that may be released")
    repair_precision: float = Field(0.95, gt=0, lt=1, description="lower bound that automatic repairs must keep")
    flag_precision: float = Field(0.9, gt=0, lt=1, description="share of what is flagged as a violation that must be right")
    flag_risk: float = Field(0.05, gt=0, lt=0.5, description="chance that a certified threshold breaks this promise, at most")

    suspects_method: Literal["auto", "cleanlab"] = Field(
        "auto", description="which labels are flagged: by our cut, or by cleanlab's default filter (small problems only)"
    )
    n_folds: int = Field(4, ge=2, le=20)
    train: dict[str, bool | int | float | str] = Field(
        {}, description="parts of a fit that are not as usual, by name: recipe, carry, mixup, … (trainer/config.py)"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    process_timeout_s: float = Field(
        3600.0, gt=0, description="seconds that one of several training processes waits for the others before all stop"
    )
    seed: int = Field(1, ge=0, lt=2**32, description="of everything that is drawn by chance")

    @field_validator("label_studio_url", "public_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        """Empty, or http(s)://host[:port][/path]. What is wrong is said without the value, which may hold a password."""
        if not value:
            return value
        try:
            parts = urlsplit(value)
            is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            is_whole = False
        if not is_whole or not value.isascii() or not value.isprintable() or set(value) & set(" \\<>\"'"):
            raise ValueError("must be a web address such as https://labels.example or http://127.0.0.1:8080")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must be without user, password, '?' and '#'; tokens have settings of their own")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        bad = [name for name in self.violations if name in ("", "none") or "|" in name or not name.isprintable()]
        if bad or len(set(self.violations)) != len(self.violations):
            shown = shorten(self.violations, 300)
            raise ValueError(f"violations must be distinct names of printable characters without '|' and not 'none', got {shown}")
        return self

    @property
    def url(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.home / 'refurbish.db'}"

    @property
    def service_url(self) -> str:
        """Where browsers and Label Studio reach the service, without a trailing slash."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


def load(file: Path | None = None, **flags: Any) -> Settings:
    """Settings from flags, environment and file.

    `file` defaults to ``refurbish.toml`` here, which may be absent; a named file must exist.
    Flags that are None count as not given. Raises ConfigError naming each bad key.
    """
    if file is not None and not file.is_file():
        raise ConfigError(f"settings file {file} does not exist; name another one or leave --config out")
    source = type("_Settings", (Settings,), {"model_config": {**Settings.model_config, "toml_file": file or DEFAULT_FILE}})
    try:
        found: Settings = source(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        lines = [f"{place(e['loc'], 'settings')}: {e['msg']}" for e in error.errors(include_input=False)]
        raise ConfigError("settings are wrong: " + "; ".join(lines)) from None
    except (OSError, ValueError, RecursionError) as error:
        where = f"settings file {file or DEFAULT_FILE} or a variable REFURBISH_*"
        raise ConfigError(f"{where} cannot be read: {shorten(str(error), 300)}; correct or remove it") from error
    return found


def origins(file: Path | None, flags: Mapping[str, Any]) -> dict[str, str]:
    """Where each setting of `load(file, **flags)` comes from: ``flag``, ``env``, ``file`` or ``default``."""
    path = file or DEFAULT_FILE
    in_file = set(tomllib.loads(path.read_text(encoding="utf-8"))) if path.is_file() else set()
    in_env = {name.upper() for name in os.environ}
    found = dict.fromkeys(Settings.model_fields, "default")
    found |= dict.fromkeys(in_file & found.keys(), "file")
    found |= {name: "env" for name in found if f"REFURBISH_{name.upper()}" in in_env}
    return found | {name: "flag" for name, value in flags.items() if value is not None}

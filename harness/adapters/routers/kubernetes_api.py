"""The Kubernetes API server, as far as a router needs it: two kinds of object, read and replaced."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from harness.model.errors import EnvironmentProblem

_CONNECT_S, _READ_S = 3.0, 10.0
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT = 401, 403, 404, 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What differs between the two: names in the API, where the weights stand, and whether the gateway reports back.

    `reports`: the object's status says which generation the gateway follows. Istio's says nothing by default.
    """

    name: str
    group: str
    version: str
    plural: str
    rules: str
    backends: str
    reports: bool
    absent: int  # the weight of a backend that has none


GATEWAY_API = Kind(
    name="gateway_api", group="gateway.networking.k8s.io", version="v1", plural="httproutes",
    rules="rules", backends="backendRefs", reports=True, absent=1,
)  # fmt: skip
ISTIO = Kind(
    name="istio", group="networking.istio.io", version="v1", plural="virtualservices",
    rules="http", backends="route", reports=False, absent=0,
)  # fmt: skip


class ConflictError(Exception):
    """Somebody wrote the object since it was read."""


class Routes(Protocol):
    """The API server, as far as it is needed here."""

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """Return an object; EnvironmentProblem when it cannot be had."""
        ...

    def put(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        """Replace an object, at the resource version in `body`; ConflictError when that is not the newest."""
        ...


def connect(kubeconfig: str = "", context: str = "") -> Routes:
    """Return the API server of a kubeconfig, or of the pod that this runs in.

    Raises EnvironmentProblem when the client is not installed or no configuration is found.
    """
    try:
        from kubernetes import client, config  # noqa: PLC0415 - an extra: only who steers Kubernetes needs it
    except ImportError as error:
        msg = "routers of Kubernetes need its Python client"
        raise EnvironmentProblem(msg, mend="install rollgate[kubernetes]") from error
    untyped_config, untyped_client = cast("Any", config), cast("Any", client)
    settings = untyped_client.Configuration()
    try:
        try:
            untyped_config.load_kube_config(kubeconfig or None, context or None, settings)
        except untyped_config.ConfigException:
            if kubeconfig or context:
                raise
            untyped_config.load_incluster_config(settings)
    except (untyped_config.ConfigException, OSError, ValueError) as error:
        msg = f"no usable kubeconfig: {error}"
        raise EnvironmentProblem(msg, mend="name a file by `kubeconfig`, or set KUBECONFIG") from error
    settings.retries = False  # whoever drives decides whether to try again
    return _ApiServer(untyped_client.CustomObjectsApi(untyped_client.ApiClient(settings)), str(settings.host))


class _ApiServer:
    """The API server by the `kubernetes` client, whose objects have no types."""

    def __init__(self, api: Any, host: str) -> None:  # noqa: ANN401
        self._api, self._host = api, host

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        return self._ask("get", "get_namespaced_custom_object", kind, namespace, name)

    def put(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        self._ask("update", "replace_namespaced_custom_object", kind, namespace, name, dict(body))

    def _ask(self, verb: str, call: str, kind: Kind, namespace: str, name: str, *body: Any) -> Any:  # noqa: ANN401
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 - as in `connect`
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            ask = getattr(self._api, call)
            return ask(
                kind.group, kind.version, namespace, kind.plural, name, *body, _request_timeout=(_CONNECT_S, _READ_S)
            )
        except HTTPError as error:
            msg = f"the API server {self._host} does not answer: {error}"
            raise EnvironmentProblem(msg, mend="is the cluster up, and reachable from here?") from error
        except ApiException as error:
            refusal = cast("Any", error)
            status, reason = int(refusal.status or 0), str(refusal.reason)
            if status == _CONFLICT:
                raise ConflictError from error
            msg = f"the API server refuses to {verb} {kind.plural}/{name} in namespace {namespace}: {status} {reason}"
            raise EnvironmentProblem(msg, mend=_mend(status, verb, kind)) from error


def _mend(status: int, verb: str, kind: Kind) -> str:
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return f"allow this account to `{verb}` {kind.plural}.{kind.group}"
    if status == _NOT_FOUND:
        return f"check namespace and name, and that {kind.group}/{kind.version} is installed"
    return "read the API server's answer, and try again"

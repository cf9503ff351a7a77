"""What a pattern asks for, in words and by an example: a regular expression mends nothing."""

from typing import get_args

from harness.spec import schema, target_schema

_WORDS = {
    schema.Name: "a name of small letters, digits, _ and -, a letter first: gpu-pool",
    schema.SignalName: "a signal's name, small words with dots between: answer.quality",
    schema.ObjectiveId: "an id of small words with dots between, two at least: rag.latency_p95",
    schema.EnvName: "the name of an environment variable: API_KEY",
    schema.HeaderName: "the name of an HTTP header: X-Api-Key",
    schema.Address: "a service and its port with a dot between: gateway.http",
    schema.Image: "an image with its version: prometheus:v3.5.0",
    schema.Moment: "a moment in UTC: 2026-01-31T12:00:00Z",
    schema.Pointer: "a JSON Pointer, a / before each key: /choices/0/rating",
    schema.UrlPath: "a path that begins with /: /answer",
    target_schema.Url: "an address that begins with http:// or https://",
    target_schema.HostName: "a host, and a port where it has one: api.example.org:8443",
    target_schema.HostPort: "a host and its port: 127.0.0.1:9999",
}

WORDS = {get_args(kind)[1].pattern: words for kind, words in _WORDS.items()}

"""What a URL may say, and what is said of mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest

from anybroker.capabilities import Guarantee, Ordering
from anybroker.errors import ConfigurationError
from anybroker.loading import load_broker
from anybroker_broker_sqs.connection import Connection
from anybroker_broker_sqs.options import read_settings


def test_the_shortest() -> None:
    settings = read_settings("sqs://eu-west-1/")
    assert (settings.region, settings.account, settings.credentials, settings.endpoint) == (
        "eu-west-1",
        None,
        None,
        None,
    )
    assert settings.options.create
    assert not settings.options.fifo
    assert settings.shown == "SQS in eu-west-1"


def test_everything() -> None:
    settings = read_settings(
        "sqs://AKIA:s%2Fecret@us-east-1/123456789012/?endpoint=https://vpce.example.com/&prefix=app-&create=no&fifo=yes"
        "&visibility=5m&wait=10&message_size=1048576&calls=4&kms_key=alias/jobs&tags=team:mail,env:prod&profile=jobs"
    )
    assert settings.credentials == ("AKIA", "s/ecret")
    assert settings.account == "123456789012"
    assert settings.endpoint == "https://vpce.example.com"
    assert settings.tags == {"team": "mail", "env": "prod"}
    options = settings.options
    assert (options.create, options.fifo, options.wait, options.calls) == (False, True, 10, 4)
    assert options.visibility == timedelta(minutes=5)
    assert (options.kms_key, options.profile) == ("alias/jobs", "jobs")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqs://", "names no region; write sqs://eu-west-1/"),
        ("sqs:///q", "names no region"),
        ("sqs://localhost:9324/", "endpoint=http://localhost:9324"),
        ("sqs://eu-west-1,eu-west-2/", "names no region"),
        ("sqs://-eu/", "names no region"),
        ("sqs://127/", "names no region"),
        ("sqs://eu-west-1/orders", "an account, of 12 digits"),
        ("sqs://key@eu-west-1/", "an access key id, a colon and a secret"),
        ("sqs://eu-west-1/?prefx=a", "did you mean 'prefix'"),
        ("sqs://eu-west-1/?prefix=a.b", "prefix takes up to 40"),
        ("sqs://eu-west-1/?wait=21", "'wait'"),
        ("sqs://eu-west-1/?calls=0", "'calls'"),
        ("sqs://eu-west-1/?message_size=2097152", "'message_size'"),
        ("sqs://eu-west-1/?visibility=13h", "at most 12 h"),
        ("sqs://eu-west-1/?fifo=perhaps", "yes or no"),
        ("sqs://eu-west-1/?endpoint=localhost:9324", "http://host:port"),
        ("sqs://eu-west-1/?endpoint=http://a:b@host", "http://host:port"),
        ("sqs://eu-west-1/?endpoint=http://h:99999", "http://host:port"),
        ("sqs://eu-west-1/?endpoint=http://h:0", "http://host:port"),
        ("sqs://eu-west-1/?endpoint=http://[::1", "http://host:port"),
        ("sqs://eu-west-1/?endpoint=http://elastic_mq:9324", "no endpoint with the host 'elastic_mq'.* an alias"),
        ("sqs://eu-west-1/?endpoint=http://-host", "no endpoint with the host '-host'"),
        ("sqs://eu-west-1/?tags=team", "name:value"),
    ],
)
def test_mistakes(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_broker(url)


@pytest.mark.parametrize("endpoint", ["http://elastic-mq:9324", "http://127.0.0.1:9324", "http://[::1]:9324"])
def test_an_endpoint_that_is_taken_is_one_for_boto3(endpoint: str) -> None:
    settings = read_settings(f"sqs://key:secret@eu-west-1/123456789012/?create=no&endpoint={endpoint}")
    assert Connection(settings).url("q") == f"{endpoint}/123456789012/q"
    assert Connection(settings)._quick().meta.endpoint_url == endpoint


def test_a_secret_is_not_shown() -> None:
    url = "sqs://AKIA:s3cr3t@eu-west-1/?wait=99"
    with pytest.raises(ConfigurationError) as raised:
        load_broker(url)
    assert "s3cr3t" not in str(raised.value)
    settings = read_settings("sqs://AKIA:s3cr3t@eu-west-1/")
    assert "s3cr3t" not in f"{settings!r} {settings.__rich_repr__()}"
    assert "s3cr3t" not in repr(load_broker("sqs://AKIA:s3cr3t@eu-west-1/"))


def test_what_is_declared() -> None:
    standard, fifo = load_broker("sqs://eu-west-1/"), load_broker("sqs://eu-west-1/?fifo=yes")
    assert standard.capabilities.ordering is Ordering.NONE
    assert fifo.capabilities.ordering is Ordering.PER_KEY
    assert standard.capabilities.fencing is Guarantee.BEST_EFFORT
    assert standard.capabilities.max_body == (262_144 - 4096) * 3 // 4
    large = load_broker("sqs://eu-west-1/?message_size=1048576")
    assert large.capabilities.max_body == (1_048_576 - 4096) * 3 // 4


def test_no_credentials_is_said_with_what_helps() -> None:
    acquire = "load_broker('sqs://eu-west-1/').acquire(['q'], limit=1, wait=0, lease=1)"
    command = [sys.executable, "-c", f"from anybroker.loading import load_broker; {acquire}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"HOME": "/nowhere", "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "ConfigurationError: SQS in eu-west-1: no credentials were found" in done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr


def test_core_does_not_import_boto3() -> None:
    code = "import anybroker, anybroker.worker, anybroker.cli, sys; assert not {'boto3', 'botocore'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

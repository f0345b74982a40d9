"""What boto3 raises and what SQS answers, as anybroker's errors. The one place where they are translated."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError, LeaseLost, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "KmsAccessDenied", "UnauthorizedOperation"}
_REFUSED = {
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "MissingAuthenticationToken",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_STALE = {"InvalidParameterValue", "MessageNotInflight", "ReceiptHandleIsInvalid"}
"""Codes of a receipt handle that holds nothing any more; of a FIFO queue "the receipt handle has expired"."""
_KMS = [f"KMS.{name}Exception" for name in ("AccessDenied", "Disabled", "InvalidState", "NotFound")]
_SETTLES = {"ChangeMessageVisibility", "DeleteMessage"}
_ACCESS_KEY = re.compile(r"\b[A-Z0-9]{4}[A-Z0-9]{12,}\b")
_LONGEST = 300
_HELP = "see the credentials of boto3, e.g. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; a server for tests takes any"


class QueueMissing(BrokerUnavailable):
    """The queue does not exist: not yet, or not any more."""


class LostInRepetition(LeaseLost):
    """Refused when boto3 asked again because no answer came: by the first call, perhaps, the message is gone."""


_BY_CODE: dict[str, type[AnybrokerError]] = {
    **dict.fromkeys(("NonExistentQueue", "QueueDoesNotExist"), QueueMissing),
    **dict.fromkeys(("BatchRequestTooLong", "InvalidMessageContents"), MessageTooLarge),
    **dict.fromkeys(("InvalidAddress", "InvalidAttributeName", "InvalidAttributeValue"), ConfigurationError),
    **dict.fromkeys(("KmsDisabled", "KmsInvalidKeyUsage", "KmsInvalidState", "KmsNotFound"), ConfigurationError),
    **dict.fromkeys(_KMS, ConfigurationError),
    **dict.fromkeys(("QueueAlreadyExists", "QueueNameExists", "UnsupportedOperation"), ConfigurationError),
}
"""Any other refusal may end by itself: throttling, a fault of the service, credentials that have expired."""


@contextmanager
def translated(operation: str, where: str) -> Iterator[None]:
    """Raise what anybroker raises instead of what boto3 does. ``operation`` as IAM writes it: ``SendMessage``."""
    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        raise of_answer(answer, operation, where) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigurationError(f"{where}: no credentials were found; {_HELP}") from error
    except (NoRegionError, ParamValidationError, ProfileNotFound) as error:
        raise ConfigurationError(f"{where}: {_safe(str(error))}") from error
    except (BotoCoreError, ResponseParserError, OSError) as error:
        raise BrokerUnavailable(f"{where} cannot be reached: {_safe(str(error))}") from error


def of_answer(answer: Mapping[str, Any], operation: str, where: str) -> AnybrokerError:
    """The error for a refusal of a whole call, or of one entry of a batch (``Code`` and ``Message``)."""
    code = str(answer.get("Code", "")).removeprefix("AWS.SimpleQueueService.")
    text = f"{where}: {operation} was refused ({code}): {_safe(str(answer.get('Message', '')))}"
    if code in _DENIED:
        return ConfigurationError(f"{text}; the credentials need the permission sqs:{operation}")
    if code in _REFUSED:
        return ConfigurationError(f"{text}; {_HELP}")
    if code in _STALE and operation in _SETTLES:
        return LeaseLost(text)
    if code == "InvalidParameterValue":  # "Message must be shorter than 262144 bytes", or a name that cannot be
        return (MessageTooLarge if "shorter than" in text else ConfigurationError)(text)
    return _BY_CODE.get(code, BrokerUnavailable)(text)


def _safe(text: str) -> str:
    """The first line, without access keys; the lines after it may repeat what was signed."""
    line = _ACCESS_KEY.sub("***", text.strip().partition("\n")[0])
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"

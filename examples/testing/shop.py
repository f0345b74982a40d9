"""Tasks as an application has them; ``test_shop.py`` tests them."""

from datetime import timedelta

from anybroker import App, Retry

app = App()
sent: list[str] = []


@app.task(retry=Retry(max=3), queue="mail")
def send_mail(address: str, text: str) -> None:
    if not sent:
        sent.append("(the first connection is refused)")
        raise ConnectionError("connection refused")
    sent.append(f"{address}: {text}")


def sign_up(address: str) -> None:
    """Welcome somebody now, and ask after two days how they are."""
    send_mail.send(address, "welcome")
    send_mail.options(delay=timedelta(days=2)).send(address, "how are you?")

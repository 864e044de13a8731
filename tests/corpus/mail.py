"""E-mail."""

from __future__ import annotations

from email.message import EmailMessage

from tests import documents
from tests.corpus import Case
from tests.corpus.containers import compound, outlook

_HEAD = b"From: Ada <ada@example.com>\r\nTo: bob@example.com\r\nMIME-Version: 1.0\r\n"


def message(subject: str = "Überweisung für März") -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = subject, "Ada Lovelace <ada@example.com>", "bob@example.com"
    mail["Date"] = "Tue, 03 Nov 2026 10:00:00 +0100"
    mail["Message-ID"] = "<1@example.com>"
    mail.set_content(f"Guten Tag,\n\ndie Größe stimmt. {documents.KNEE}.\n", cte="quoted-printable")
    return mail


def with_attachments() -> bytes:
    mail = message()
    mail.add_attachment(documents.docx(), maintype="application", subtype="octet-stream", filename="Prämien.docx")
    mail.add_attachment(b"\x89PNG\r\n\x1a\n" + bytes(100), maintype="image", subtype="png", filename="logo.png")
    mail.add_attachment(documents.encrypted_pdf(), maintype="application", subtype="pdf", filename="secret.pdf")
    mail.add_attachment(documents.pdf_partly_scanned(), maintype="application", subtype="pdf", filename="scan.pdf")
    inner = message("Inner letter")
    inner.add_attachment("Years,Days\n2,25\n", filename="leave.csv")
    mail.add_attachment(inner)
    return mail.as_bytes()


def both_forms() -> bytes:
    mail = message()
    mail.add_alternative("<p>Die Größe stimmt.</p>"
        "<table><tr><th>Plan</th><th>Tage</th></tr><tr><td>Gold</td><td>30</td></tr></table>"
                         f"<p>{documents.KNEE}. Guten Tag.</p>", subtype="html")  # fmt: skip
    return mail.as_bytes()


def saved_page() -> bytes:
    return (
        b"From: <Saved by Blink>\r\nSnapshot-Content-Location: https://example.com/guide\r\n"
        b"Subject: Guide\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/related; type="text/html"; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html\r\n'
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"<h1>Surg=\r\nery</h1><p>F=C3=BCnf</p>\r\n--b\r\nContent-Type: image/png\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--\r\n"
    )


def outlook_message() -> bytes:
    attached = {"__substg1.0_3707001F": "leave.csv".encode("utf-16-le"), "__substg1.0_37010102": b"Years,Days\n2,25\n"}
    inner = outlook({0x0037: "Inner letter", 0x1000: "A word inside."}, inside=True)
    nested = {"__substg1.0_3001001F": "letter".encode("utf-16-le"), "__substg1.0_3701000D": inner}
    about = {
        0x0037: "The Book of Workbook",
        0x0C1A: "Ada",
        0x5D01: "ada@example.com",
        0x0E04: "Bob",
        0x1000: f"{documents.KNEE}.",
    }
    return compound(outlook(about, (attached, nested)))


def outlook_rtf() -> bytes:
    rtf = rb"{\rtf1\ansi " + documents.KNEE.encode() + b".}"
    packed = b"".join(b"\0" + rtf[at : at + 8] for at in range(0, len(rtf), 8))
    head = (len(packed) + 12).to_bytes(4, "little") + len(rtf).to_bytes(4, "little") + b"LZFu" + bytes(4)
    return compound(outlook({0x0037: "Rich", 0x1009: head + packed}))


def mailbox() -> bytes:
    return b"".join(
        b"From ada@example.com Tue Nov  3 10:00:00 2026\n" + message(f"Letter {n}").as_bytes() + b"\n" for n in (1, 2)
    )


CASES = (
    Case(
        "letter.eml",
        lambda: message().as_bytes(),
        (
            "# Überweisung für März",
            "From: Ada Lovelace <ada@example.com>",
            "To: bob",
            "Date: Tue, 03 Nov 2026",
            "die Größe stimmt",
            documents.KNEE,
        ),
        absent=("=C3", "Message-ID"),
    ),
    Case(
        "attached.eml",
        with_attachments,
        (
            documents.KNEE,
            "Attachment: Prämien.docx",
            "Surgery",
            "logo.png (not read: This is a picture",
            "secret.pdf (not read: The file is protected by a password.",
            "Attachment: scan.pdf",
            "Inner letter",
            "leave.csv",
            "| Years | Days |",
        ),
    ),
    Case(
        "cut-subject.eml",
        lambda: _HEAD + b"Subject: Re: =?utf-8?B?SGVsbG8gd29ybGQgaG93I?=\r\n\r\nThe key is under the mat.",
        ("The key is under the mat",),
    ),
    Case("scan.eml", with_attachments, ("scan.pdf", "The last page names the insurer", "Page 2 was not read")),
    Case("forms.eml", both_forms, ("| Gold | 30 |", documents.KNEE), absent=("<table>",)),
    Case(
        "latin.eml", lambda: _HEAD + "Subject: Größe\r\n\r\nFür die Übung".encode("latin-1"), ("Größe", "Für die Übung")
    ),
    Case(
        "declared.eml",
        lambda: _HEAD + b"Content-Type: text/plain; charset=koi8-r\r\n\r\n" + "Привет, мир".encode("koi8-r"),
        ("Привет, мир",),
    ),
    Case(
        "sealed.eml",
        lambda: (
            _HEAD
            + b"Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA"
        ),
        sentence="signed or encrypted e-mail",
    ),
    Case("unnamed.txt", lambda: message().as_bytes(), ("# Überweisung", "die Größe"), absent=("=C3",)),
    Case("memo.txt", lambda: b"From: Ada\nTo: Bob\n\nThis memo is no e-mail.\n", ("From: Ada", "no e-mail")),
    Case(
        "page.mhtml",
        saved_page,
        ("# Guide", "https://example.com/guide", "# Surgery", "Fünf"),
        absent=("aGVs", "Blink", "=C3"),
    ),
    Case("box.mbox", mailbox, ("# Letter 1", documents.KNEE, "# Letter 2"), pages=(None, None)),
    Case(
        "letter.msg",
        outlook_message,
        (
            "# The Book of Workbook",
            "From: Ada <ada@example.com>",
            "To: Bob",
            documents.KNEE,
            "| Years | Days |",
            "Inner letter",
            "A word inside.",
        ),
    ),
    Case("rich.msg", outlook_rtf, ("# Rich", documents.KNEE)),
)

"""Text in encodings that nothing names."""

from __future__ import annotations

from collections.abc import Iterator

from tests.corpus import Case

TEXTS = {
    "de": "Die Größe der Maße wird jährlich geprüft, außer für Übergänge. Fußgänger dürfen die Straße überqueren.",
    "fr": "L'élève a été reçu à l'école où il préfère étudier le français; ça coûte très cher à Noël.",
    "es": "El niño español comió piña en la montaña; ¿dónde está el señor Muñoz? ¡Qué corazón!",
    "sv": "Hans älskade åt en räka på ön när våren kom och blåsten från sjön avtog.",
    "pl": "Zażółć gęślą jaźń. Język polski należy do grupy zachodniosłowiańskiej, używany jest głównie w Polsce.",
    "tr": "Türkçe, güneydoğu Avrupa ve batı Asya'da konuşulan, İstanbul şehirlerinde çok önemli bir dildir.",
    "ru": "Съешь ещё этих мягких французских булок, да выпей чаю. Москва является столицей России.",
    "uk": "Українська мова є державною мовою України, її вивчають у школах і використовують щодня.",
    "el": "Η ελληνική γλώσσα ανήκει στην ινδοευρωπαϊκή οικογένεια γλωσσών και είναι επίσημη.",
    "he": "עברית היא שפה שמית ממשפחת השפות האפרו אסייתיות הידועה כשפתם של היהודים",
    "ar": "اللغة العربية هي أكثر اللغات السامية تحدثا وإحدى أكثر اللغات انتشارا في العالم",
    "th": "ภาษาไทยเป็นภาษาราชการของประเทศไทยและมีผู้พูดจำนวนมาก",
    "ja": "膝の手術の自己負担額は五万円です。毎年の届け出が必要です。カタカナも使います。",
    "zh": "中文是世界上使用人数最多的语言,我们每天都在学习新的东西。",
    "ko": "한국어는 한반도에서 사용하는 언어이며 매일 많은 사람들이 배우고 있습니다.",
}
ENCODINGS = {
    "de": "cp1252 mac_roman cp850",
    "fr": "cp1252 iso8859_15 mac_roman",
    "es": "cp1252 mac_roman cp437",
    "sv": "cp1252 mac_roman",
    "pl": "cp1250 iso8859_2",
    "tr": "cp1254",
    "ru": "cp1251 koi8_r cp866 iso8859_5 mac_cyrillic utf-16-be utf-16-le",
    "uk": "cp1251 koi8_u utf-16-be",
    "el": "cp1253 iso8859_7 utf-16-be",
    "he": "cp1255 iso8859_8 utf-16-le",
    "ar": "cp1256 utf-16-be",
    "th": "cp874",
    "ja": "shift_jis euc_jp iso2022_jp",
    "zh": "gb18030",
    "ko": "euc_kr",
}


def _cases() -> Iterator[Case]:
    for language, encodings in ENCODINGS.items():
        for encoding in encodings.split():
            text = TEXTS[language].encode(encoding, "ignore")
            yield Case(f"{language}-{encoding}.txt", lambda text=text: text, (text.decode(encoding),))


CASES = tuple(_cases())

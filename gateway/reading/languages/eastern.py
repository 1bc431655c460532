"""Slavic languages, Greek, Turkish."""

from __future__ import annotations

from typing import Final

from gateway.reading.languages.table import Language

TABLES: Final = (
    Language(
        "pl",
        forwarded=(
            "wiadomość przekazana dalej|przekazana wiadomość|początek przekazanej wiadomości|"
            "początek przekazywanej wiadomości|treść przekazanej wiadomości|"
            "wiadomość przesłana dalej|przesłana wiadomość|forwardowana wiadomość|"
            "wiadomość przekazana|treść przekazanej wiadomości / fwd.msg|"
            "przekazana wiadomość e-mail|początek przesłanej wiadomości|przekazywana wiadomość|"
            "przekazano przez|przekierowana wiadomość|przesłana dalej wiadomość|"
            "początek wiadomości przekazanej dalej|przekazany email|początek przekazywanego listu|"
            "dalsza wiadomość"
        ),
        original=(
            "wiadomość oryginalna|oryginalna wiadomość|pierwotna wiadomość|oryginalny e-mail|"
            "oryginalna wiadomość e-mail|wiadomość pierwotna|oryginalny mail"
        ),
        from_="od|nadawca|from|wysłane przez",
        to="do|adresat|odbiorca|odbiorcy|adresaci",
        cc="dw|do wiadomości|kopia|cc|kopia do|do wiad.|dw.",
        bcc="udw|ukryta kopia|udw.",
        date="data|wysłano|wysłany|data wysłania|wysłane|dnia|wysłana|data i godzina|data wysłano",
        subject="temat|tytuł|temat wiadomości",
        reply_to="odpowiedz do|odpowiedź do|adres odpowiedzi",
        other="ważność|załączniki|załącznik|priorytet|waga",
        wrote="napisał|napisał(a)|pisze|napisała|napisali|napisano|pisał|napisał/a|pisze:",
        forward_prefix="pd|przek|fwd|pdm|przesł",
        reply_prefix="odp|re",
    ),
    Language(
        "cs",
        forwarded=(
            "přeposlaná zpráva|začátek přeposílané zprávy|přeposílaná zpráva|"
            "začátek přeposlané zprávy|přeposlaný e-mail|přeposlaný email|předaná zpráva|"
            "předávaná zpráva|přeposlal|přeposílaný e-mail|začátek předávané zprávy|"
            "přeposílaný email|začátek předané zprávy|přeposlaná zpráva / fwd.msg"
        ),
        original=(
            "původní zpráva|původní e-mail|originální zpráva|původní email|původní mail|"
            "puvodni zprava"
        ),
        from_="od|odesílatel|odesilatel",
        to="komu|příjemce|adresát|pro|na",
        cc="kopie|cc|kopie komu|v kopii",
        bcc="skrytá kopie|skrytá",
        date="datum|odesláno|posláno|datum a čas|odeslána|dne|datum odeslání|čas",
        subject="předmět|věc|predmet",
        reply_to="odpovědět na|odpověď|odpovědět komu|odpovědět",
        other="důležitost|přílohy|příloha|priorita",
        wrote=(
            "napsal(a)|napsal|napsala|píše|napsal/a|napsali|napsal(a) následující|píšete|"
            "napsal uživatel|napsal(a) dne"
        ),
        forward_prefix="přep|fwd|př|přeposl",
        reply_prefix="odp|re",
    ),
    Language(
        "sk",
        forwarded=(
            "preposlaná správa|začiatok preposlanej správy|preposielaná správa|preposlaný e-mail|"
            "preposlaný email|začiatok preposielanej správy|posunutá správa|poslaná ďalej|"
            "preposlal|postúpená správa|začiatok posunutej správy|preposlané|"
            "preposlaná správa / fwd.msg"
        ),
        original="pôvodná správa|originálna správa|pôvodný e-mail|pôvodný email|povodna sprava",
        from_="od|odosielateľ",
        to="komu|príjemca|adresát|pre",
        cc="kópia|cc|kopia",
        bcc="skrytá kópia",
        date="dátum|odoslané|dňa|poslané|dátum a čas|odoslaná|čas",
        subject="predmet|vec",
        reply_to="odpovedať na|odpovedať|odpoveď",
        other="dôležitosť|prílohy|príloha|priorita",
        wrote=(
            "napísal(a)|napísal|napísala|píše|napísal/a|napísali|napísal(-a)|napísal/-a|"
            "napísal používateľ"
        ),
        forward_prefix="prep|fwd|posl|pr",
        reply_prefix="odp|re",
    ),
    Language(
        "sl",
        forwarded=(
            "posredovano sporočilo|začetek posredovanega sporočila|posredovana e-pošta|"
            "preusmerjeno sporočilo|posredovana pošta|posredoval|začetek posredovanega e-sporočila"
        ),
        original="izvirno sporočilo|originalno sporočilo|prvotno sporočilo",
        from_="od|pošiljatelj",
        to="za|prejemnik|komu",
        cc="kp|v vednost|kopija|cc|v vednost (kp)|kopija (cc)",
        date="datum|poslano|dne",
        subject="zadeva|predmet",
        wrote=(
            "je napisal|je napisala|napisal|piše|je zapisal|je napisal/a|je napisal(a)|"
            "je oseba napisala|je pisal"
        ),
        forward_prefix="pos|psr|pp|fwd",
        reply_prefix="odg|re",
    ),
    Language(
        "hr",
        forwarded=(
            "proslijeđena poruka|proslijeđen poruka|započni proslijeđenu poruku|"
            "početak proslijeđene poruke|prosleđena poruka|proslijedjena poruka|prosledjena poruka|"
            "proslijeđeni e-mail|proslijeđena pošta|početak prosleđene poruke|prosleđeno od|"
            "proslijeđena e-pošta|počinje proslijeđena poruka|proslijeđeno|"
            "početak proslijeđenog maila|proslijeđena e-poruka|prosleđen mejl|"
            "počni proslijeđenu poruku"
        ),
        original=(
            "izvorna poruka|originalna poruka|prvobitna poruka|izvorna e-poruka|originalni mail"
        ),
        from_="od|šalje|pošiljatelj|pošiljalac|salje",
        to="za|prima|primatelj|kome|primalac|primatelji",
        cc="kopija|cc|kopija za|na znanje|kp",
        date="datum|poslano|poslato|vrijeme|vreme|dana|datum slanja",
        subject="predmet|tema|naslov|naslov poruke",
        wrote=(
            "je napisao|je napisala|napisao|piše|je napisao/la|je napisao/napisala|je napisao(la)|"
            "je napisao/-la|je korisnik napisao|je korisnik|je pisao|napisao je|napisala je|"
            "je napisao/la sljedeće"
        ),
        reply_to="odgovor na|odgovori na|odgovori",
        forward_prefix="proslj|prosl|pr|fwd|proslijeđeno|prosljeđeno",
        reply_prefix="odg|re|od",
    ),
    Language(
        "sr",
        forwarded="прослеђена порука|проследјена порука|почетак прослеђене поруке|прослеђено",
        original="оригинална порука|изворна порука|првобитна порука",
        from_="од|пошиљалац|шаље",
        to="за|прималац|коме",
        cc="копија|кп",
        date="датум|послато|послано|време",
        subject="наслов|предмет|тема",
        wrote="је написао|је написала|је написао/ла|написао|пише|је написао(ла)",
        forward_prefix="просл|прс",
        reply_prefix="одг",
    ),
    Language(
        "bg",
        forwarded=(
            "препратено съобщение|препратено писмо|начало на препратеното съобщение|"
            "начало на препратено съобщение|препратен имейл|начало на препратеното писмо|"
            "препратен е-мейл|препратено от|препратен мейл"
        ),
        original=(
            "оригинално съобщение|първоначално съобщение|оригинално писмо|оригинален имейл|"
            "изходно съобщение"
        ),
        from_="от|подател|изпращач",
        to="до|получател|за|към",
        cc="копие|як|копие до|як:",
        date="дата|изпратено|изпратен|изпратена|дата и час",
        subject="тема|относно|заглавие",
        wrote="написа|пише|е написал|писа|написа следното|е написал(а)",
        forward_prefix="преп|прп|прпр",
        reply_prefix="отг|отн",
    ),
    Language(
        "mk",
        forwarded="препратена порака|проследена порака|почеток на препратената порака",
        original="оригинална порака|изворна порака",
        from_="од|испраќач|од кого",
        to="до|за|примач",
        cc="копија|копија до",
        date="датум|испратено|дата|пратено",
        subject="предмет|наслов|тема",
        wrote="напиша|пишува|написа",
        forward_prefix="прп",
    ),
    Language(
        "ru",
        forwarded=(
            "пересылаемое сообщение|начало переадресованного сообщения|переадресованное сообщение|"
            "перенаправленное сообщение|пересланное сообщение|пересылаемое письмо|"
            "пересланное письмо|начало пересылаемого сообщения|перенаправленное письмо|"
            "начало пересланного сообщения|пересылаемая почта|начало переадресованного письма|"
            "переслано от|конец пересылаемого сообщения|форвард|переадресованное письмо|переслано|"
            "начало перенаправленного сообщения|пересылаемое сообщение / fwd.msg|перешлите"
        ),
        original=(
            "исходное сообщение|исходное письмо|оригинальное сообщение|первоначальное сообщение|"
            "оригинал сообщения|исходные данные|первоначальное письмо|сообщение"
        ),
        from_="от|отправитель|от кого|от имени",
        to="кому|получатель|куда|получатели|кому:",
        cc="копия|копии|копия кому|cc",
        bcc="скрытая копия|ск",
        date="дата|отправлено|дата отправки|отправлен|дата и время|послано|время|когда",
        subject="тема|тема письма|заголовок",
        reply_to="ответить|обратный адрес|адрес ответа|кому ответить",
        other="важность|вложения|вложение|приоритет",
        wrote=(
            "написал|написал(а)|написала|пишет|писал|писал(а)|писала|вы писали|написано|написали|"
            "сообщил|пишите|вы написали|написал(-а)"
        ),
        forward_prefix="пер|пересл|перенапр|переслано|пр",
        reply_prefix="ответ|отв|на",
    ),
    Language(
        "uk",
        forwarded=(
            "переслане повідомлення|початок листа, що пересилається|переадресоване повідомлення|"
            "переслане повідомлення / fwd.msg|перенаправлене повідомлення|пересланий лист|"
            "початок переадресованого повідомлення|початок пересланого повідомлення|"
            "перенаправлений лист|початок переадресованого листа|"
            "початок перенаправленого повідомлення|повідомлення, що пересилається|"
            "початок повідомлення, що пересилається|перенаправлено|лист, що пересилається|"
            "пересилання повідомлення|пересилається повідомлення|переспрямоване повідомлення"
        ),
        original=(
            "вихідне повідомлення|оригінальне повідомлення|початкове повідомлення|вихідний лист|"
            "оригінал повідомлення|оригінальний лист|початковий лист"
        ),
        from_="від|відправник|від кого|від кого:",
        to="кому|одержувач|отримувач|до|куди",
        cc="копія|копія кому|cc|копії",
        bcc="прихована копія",
        date=(
            "дата|надіслано|відправлено|дата надсилання|відправлений|час|дата та час|"
            "дата відправлення"
        ),
        subject="тема|тема листа",
        reply_to="відповісти|відповідь|адреса для відповіді",
        wrote=(
            "написав|написав(-ла)|написала|пише|писав|написав(ла)|пишуть|написали|написав/ла|"
            "написав(-ла)"
        ),
        forward_prefix="пер|пересл|перенапр|переадр",
        reply_prefix="відп|на|відповідь",
    ),
    Language(
        "el",
        forwarded=(
            "προωθημένο μήνυμα|αρχή προωθημένου μηνύματος|έναρξη προωθημένου μηνύματος|"
            "προωθούμενο μήνυμα|προωθημένο μήνυμα / fwd.msg|αρχή προωθούμενου μηνύματος|"
            "μήνυμα που προωθήθηκε|προωθήθηκε από|προωθημένο email|προωθημένη αλληλογραφία"
        ),
        original="αρχικό μήνυμα|πρωτότυπο μήνυμα|αυθεντικό μήνυμα|αρχικό email",
        from_="από|αποστολέας",
        to="προς|παραλήπτης|παραλήπτες",
        cc="κοιν.|κοινοποίηση|κοιν|cc|κοιν. προς",
        date="ημερομηνία|στάλθηκε|ημ/νία|εστάλη|απεστάλη|αποστολή|ημερ.",
        subject="θέμα",
        wrote="έγραψε|έγραψες|γράφει|έγραψε τα εξής|έγραψε τα ακόλουθα|έγραψαν",
        reply_to="απάντηση προς|απάντηση σε|απάντηση",
        forward_prefix="πρθ|προωθ|προώθηση|πρ",
        reply_prefix="απ|σχετ|απάντηση",
    ),
    Language(
        "tr",
        forwarded=(
            "iletilen mesaj|iletilmiş mesaj|iletilen ileti|yönlendirilen mesaj|"
            "iletilen mesajın başlangıcı|başlangıç iletilen mesaj|iletilen mesajın başı|"
            "yönlendirilmiş ileti|yönlendirilmiş mesaj|yönlendirilen ileti|iletilmiş ileti|"
            "iletilen e-posta|iletilen eposta|iletilen mesaj / fwd.msg|başlangıç: iletilen mesaj|"
            "yönlendirilen e-posta|iletilen iletinin başlangıcı|iletilmiş mesajın başlangıcı|"
            "yönlendirilmiş ileti başlangıcı|ileten|yönlendirilmiş e-posta|"
            "iletilen mesaj başlangıcı|iletilen iletinin başı"
        ),
        original=(
            "özgün ileti|orijinal mesaj|orjinal mesaj|özgün mesaj|orijinal ileti|asıl mesaj|"
            "asıl ileti|orijinal e-posta|orijinal mail"
        ),
        from_="kimden|gönderen|gonderen|yollayan",
        to="kime|alıcı|alıcılar|kime:",
        cc="bilgi|cc|kopya|bilgi için|karbon kopya",
        bcc="gizli|gizli kopya",
        date=(
            "tarih|gönderildi|gönderme tarihi|gönderim tarihi|gönderilme tarihi|gönderilen|"
            "gönderilme zamanı|zaman|gönderilmiş"
        ),
        subject="konu|başlık",
        reply_to="yanıt adresi|yanıtla|yanıtlama adresi|cevap adresi|cevapla",
        other="önem|ekler|öncelik|ek",
        wrote=(
            "yazdı|şunu yazdı|şunları yazdı|tarihinde şunu yazdı|tarihinde yazdı|şöyle yazdı|"
            "yazmış|şunları yazmış|yazıyor"
        ),
        forward_prefix="ilt|iletilen|yönl|ilet",
        reply_prefix="ynt|yan|cevap|yanıt|cvp|ytl",
    ),
)

"""Scandinavian, Baltic and Finno-Ugric languages."""

from __future__ import annotations

from typing import Final

from gateway.reading.languages.table import Language

TABLES: Final = (
    Language(
        "da",
        forwarded=(
            "videresendt meddelelse|videresendt besked|start på videresendt besked|"
            "start på videresendt meddelelse|begyndelse på videresendt besked|"
            "begyndelse på videresendt meddelelse|videresendt mail|videresendt e-mail|"
            "videresendt af|fremsendt meddelelse|starten på den videresendte besked|"
            "påbegynd videresendt besked|videresendte meddelelse|videresendt email|"
            "begyndelse på videresendt mail|videresendt meddelelse / fwd.msg"
        ),
        original=(
            "oprindelig meddelelse|original meddelelse|oprindelig besked|original besked|"
            "oprindelig mail|oprindelig e-mail|den oprindelige meddelelse"
        ),
        from_="fra|afsender",
        to="til|modtager|modtagere",
        cc="cc|kopi|kopi til",
        date="dato|sendt|dato og tid|sendt den|afsendt|tid",
        subject="emne|vedrørende",
        reply_to="svar til|svar-til",
        other="prioritet|vedhæftede filer|vedhæftet|vigtighed|vedhæftninger",
        wrote="skrev|skrev følgende|har skrevet|skriver|skrev den|skrev følgende den",
        forward_prefix="vs|videresend|videresendt|vid|vsd",
        reply_prefix="sv|svar",
    ),
    Language(
        "no",
        forwarded=(
            "videresendt melding|videresendt e-post|start på videresendt melding|"
            "begynnelse på videresendt melding|videresendt epost|videresendt av|"
            "begynn på videresendt melding|videresendt meldingen|starten på videresendt melding|"
            "start på videresendt e-post|vidaresend melding|videresendt beskjed|"
            "begynnelsen på videresendt melding|videresendt melding / fwd.msg|"
            "start på videresendt e-postmelding|begynnelse på den videresendte meldingen"
        ),
        original=(
            "opprinnelig melding|original melding|opprinnelig e-post|opphavleg melding|"
            "original beskjed|opprinnelig beskjed"
        ),
        from_="fra|frå|avsender",
        to="til|mottaker|mottakar",
        cc="kopi|kopi til|cc",
        date="dato|sendt|dato/klokkeslett|sendt den|sendt dato|dagsetning",
        subject="emne|vedr",
        reply_to="svar til",
        other="viktighet|vedlegg|prioritet|betydning",
        wrote="skrev|skrev følgende|har skrevet|skreiv|skriver|skrev følgjande",
        forward_prefix="vs|videresendt|vidaresendt|vb",
        reply_prefix="sv",
    ),
    Language(
        "sv",
        forwarded=(
            "vidarebefordrat meddelande|vidarebefordrat brev|början på vidarebefordrat meddelande|"
            "början på det vidarebefordrade meddelandet|vidarebefordrat mail|"
            "vidarebefordrat e-postmeddelande|vidarebefordrat mejl|"
            "börja vidarebefordrat meddelande|vidarebefordrad av|vidarebefordrat av|"
            "inledning av vidarebefordrat meddelande|vidaresänt meddelande|"
            "start på vidarebefordrat meddelande|vidarebefordrat meddelande / fwd.msg|"
            "vidarebefordrat e-mail"
        ),
        original=(
            "ursprungligt meddelande|originalmeddelande|ursprungligt mail|ursprungligt brev|"
            "ursprungligt e-postmeddelande|ursprungsmeddelande|ursprungligt mejl"
        ),
        from_="från|avsändare",
        to="till|mottagare",
        cc="kopia|cc|kopia till",
        bcc="dold kopia|hemlig kopia",
        date="datum|skickat|skickades|datum och tid|sänt|skickat den|skickat datum",
        subject="ämne|rubrik|angående",
        reply_to="svar till|svara till|svarsadress",
        other="prioritet|bilagor|bifogade filer|vikt|bilaga",
        wrote="skrev|skrev följande|skriver|har skrivit|skrev så här",
        forward_prefix="vb|vidarebefordrat|vbf|vidarebefordra",
        reply_prefix="sv|ang",
    ),
    Language(
        "is",
        forwarded=(
            "áframsend skilaboð|framsend skilaboð|áframsendur póstur|upphaf áframsendra skilaboða|"
            "áframsent bréf"
        ),
        original="upprunaleg skilaboð|upphafleg skilaboð|upprunalegur póstur",
        from_="frá|sendandi",
        to="til|viðtakandi",
        cc="afrit|cc",
        date="dagsetning|sent|dags",
        subject="efni|viðfangsefni",
        wrote="skrifaði|ritaði|skrifar",
        forward_prefix="fs|frs|áfr",
    ),
    Language(
        "fi",
        forwarded=(
            "välitetty viesti|alkaa välitetty viesti|välitetty viesti / fwd.msg|"
            "välitetyn viestin alku|edelleenlähetetty viesti|välitetty sähköposti|"
            "edelleen lähetetty viesti|välitetty viesti alkaa|välitetty sähköpostiviesti|välittäjä|"
            "välitetty viesti alkaa tästä|aloita välitetty viesti|lähetetty edelleen|"
            "edelleenlähetetyn viestin alku|alkuperäinen välitetty viesti"
        ),
        original=(
            "alkuperäinen viesti|alkup. viesti|alkuperäinen sähköposti|alkup.viesti|"
            "alkuperäinen sähköpostiviesti"
        ),
        from_="lähettäjä|lähettänyt",
        to="vastaanottaja|saaja|vastaanottajat|kenelle",
        cc="kopio|cc|kopio saaja|jäljennös|kopiot",
        date="päiväys|lähetetty|päivämäärä|pvm|päivä|aika|lähetysaika|vastaanotettu",
        subject="aihe|otsikko",
        reply_to="vastausosoite|vastaa|vastaus",
        other="tärkeys|liitteet|prioriteetti|liite",
        wrote="kirjoitti|kirjoittaa|on kirjoittanut|kirjoitti seuraavaa|kirjoitti näin",
        forward_prefix="vl|välitetty|edell|välit|vs",
        reply_prefix="vs|vast",
    ),
    Language(
        "et",
        forwarded=(
            "edastatud kiri|edastatud sõnum|edasisaadetud kiri|edastatud e-kiri|"
            "edasi saadetud kiri|edastatud teade|algab edastatud kiri|edastatud sõnumi algus|"
            "edastatud kirja algus|edastatud sõnum algab|algab edastatud sõnum|edasisaadetud sõnum"
        ),
        original="algne kiri|algne sõnum|algkiri|originaalsõnum|originaalkiri|algne teade",
        from_="saatja|kellelt",
        to="saaja|kellele|adressaat|adressaadid",
        cc="koopia|cc|ärakiri",
        date="kuupäev|saadetud|saatmisaeg|aeg|saatmise aeg",
        subject="teema|pealkiri",
        wrote="kirjutas|kirjutab|kirjutas järgmist|on kirjutanud",
        forward_prefix="edasi|ed|edastus",
        reply_prefix="vs|vast",
    ),
    Language(
        "lv",
        forwarded=(
            "pārsūtīta ziņa|pārsūtīts ziņojums|pārsūtītā ziņa|pārsūtīta vēstule|pārsūtītā vēstule|"
            "pārsūtīts e-pasts|sākas pārsūtīts ziņojums|pāradresēta ziņa|"
            "sākas pārsūtītais ziņojums|pāradresēta vēstule"
        ),
        original=(
            "sākotnējais ziņojums|oriģinālā ziņa|sākotnējā ziņa|oriģinālā vēstule|"
            "oriģinālais ziņojums"
        ),
        from_="no|sūtītājs",
        to="kam|adresāts|saņēmējs",
        cc="kopija|cc",
        date="datums|nosūtīts|sūtīts|laiks",
        subject="temats|tēma|temats:",
        wrote="rakstīja|raksta|uzrakstīja",
        forward_prefix="pārs|pārsūt",
        reply_prefix="atb",
    ),
    Language(
        "lt",
        forwarded=(
            "persiųstas laiškas|persiųstas pranešimas|persiunčiamas laiškas|"
            "persiunčiamas pranešimas|persiųsta žinutė|persiųsto laiško pradžia|"
            "pradedamas persiųstas laiškas|persiunčiama žinutė|persiųstas el. laiškas|"
            "peradresuotas pranešimas|persiųsto pranešimo pradžia"
        ),
        original=(
            "pradinis pranešimas|originalus laiškas|originali žinutė|pirminis pranešimas|"
            "originalus pranešimas|pirminis laiškas"
        ),
        from_="nuo|siuntėjas|kas|iš",
        to="kam|gavėjas|skirta|adresatas",
        cc="kopija|cc|kam (kopija)",
        date="data|išsiųsta|siųsta|išsiuntimo data|laikas",
        subject="tema|antraštė",
        wrote="rašė|parašė|rašo",
        forward_prefix="pers|prs",
        reply_prefix="ats",
    ),
    Language(
        "hu",
        forwarded=(
            "továbbított üzenet|továbbított levél|továbbított üzenet kezdete|"
            "továbbított levél kezdete|továbbított e-mail|a továbbított üzenet kezdete|továbbítva|"
            "továbbított üzenet eleje|a továbbított levél kezdete|továbbküldött üzenet|"
            "továbbított e-mail kezdete|továbbított email|kezdődik a továbbított üzenet|"
            "továbbított üzenet / fwd.msg|továbbküldött levél|továbbította"
        ),
        original="eredeti üzenet|eredeti levél|eredeti e-mail|az eredeti üzenet",
        from_="feladó|küldő|tőle|ettől",
        to="címzett|címzettek|neki|kinek",
        cc="másolatot kap|másolat|cc|másolatot kapja|másolatot kapnak",
        bcc="titkos másolat|titkos másolatot kap",
        date="dátum|elküldve|küldve|küldés ideje|küldés dátuma|időpont|küldés időpontja",
        subject="tárgy|tárgya|téma",
        reply_to="válaszcím|válasz|válasz címe",
        other="fontosság|mellékletek|prioritás|melléklet",
        wrote="írta|ezt írta|a következőt írta|írja|a következőket írta|ezt írta (időpont|írt",
        forward_prefix="továbbítás|továbbítva|tov|továbbított|to",
        reply_prefix="vá|válasz|vá.",
    ),
)

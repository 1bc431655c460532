"""Germanic and Romance languages."""

from __future__ import annotations

from typing import Final

from gateway.reading.languages.table import Language

TABLES: Final = (
    Language(
        "en",
        forwarded=(
            "forwarded message|begin forwarded message|forwarded mail|forwarded email|"
            "forwarded e-mail|start of forwarded message|begin forwarded email|begin forward|"
            "forwarded by|fwd.msg|forwarded message / fwd.msg|forwarded message follows|"
            "here is the forwarded message|begin forwarded mail|forwarded conversation|"
            "forwarded msg|original forwarded message|this is a forwarded message"
        ),
        original=(
            "original message|original email|original e-mail|original mail|original text|"
            "reply message|replied message|reply to message|original appointment|message d'origine|"
            "begin original message|original message follows|original message below|quoted message|"
            "previous message|reply above this line|original|"
            "please type your reply above this line|please reply above this line|"
            "write above this line|please do not write below this line|"
            "reply above this line to respond|please write your reply above this line"
        ),
        from_="from|sender|from sender|mail from|author",
        to="to|recipient|recipients|sent to",
        cc="cc|copy|copy to|carbon copy|cc to",
        bcc="bcc|blind copy",
        date="date|sent|sent at|sent on|date sent|sent date|received|date/time|when|time|datetime",
        subject="subject|re|topic|title",
        reply_to="reply-to|reply to",
        other=(
            "importance|priority|attachments|attachment|sensitivity|organization|organisation|"
            "company|x-mailer|user-agent|message-id|in-reply-to|references|mime-version|"
            "content-type|resent-from|resent-to|resent-date|newsgroups|message id|where|required|"
            "optional|size|sender name|mailing list|list|categories|followup flag|flag|tags|via|"
            "return-path|received from|reply"
        ),
        wrote=(
            "wrote|writes|said|has written|posted|replied|wrote the following|schrieb|scribbled|"
            "responded|commented|sent|wrote on|writes on|write"
        ),
        forward_prefix="fwd|fw|forward|forwarded|fyi fwd",
        reply_prefix="re|reply|antw",
    ),
    Language(
        "de",
        forwarded=(
            "weitergeleitete nachricht|anfang der weitergeleiteten nachricht|"
            "anfang der weitergeleiteten e-mail|weitergeleitete e-mail|weitergeleitete mail|"
            "weitergeleitete email|weitergeleitet von|weiterleitung der nachricht|"
            "weitergeleitete original-nachricht|beginn der weitergeleiteten nachricht|"
            "anfang weitergeleitete nachricht|weiter geleitete nachricht|"
            "ursprüngliche weitergeleitete nachricht"
        ),
        original=(
            "ursprüngliche nachricht|originalnachricht|original-nachricht|ursprüngliche e-mail|"
            "original nachricht|urspruengliche nachricht|ursprüngliche mail|original-mail|"
            "originalmail|bitte antworten sie oberhalb dieser zeile|"
            "bitte geben sie ihre antwort über dieser zeile ein|ursprünglicher termin"
        ),
        from_="von|absender|von absender",
        to="an|empfänger",
        cc="kopie|kopie (cc)|cc|kopie an|kopien",
        bcc="blindkopie|bcc",
        date="datum|gesendet|gesendet am|gesendet um|verschickt|datum/uhrzeit|empfangen|zeit",
        subject="betreff|betrifft|thema",
        reply_to="antwort an|antwort-an|antworten an",
        other=(
            "wichtigkeit|priorität|anlagen|anlage|anhang|anhänge|vertraulichkeit|kategorien|"
            "organisation"
        ),
        wrote=(
            "schrieb|schreibt|hat geschrieben|schrieben|hat am folgendes geschrieben|"
            "hat folgendes geschrieben|geschrieben"
        ),
        forward_prefix="wg|weitergeleitet|wtr|weiterl|wl",
        reply_prefix="aw|antw|antwort",
    ),
    Language(
        "nl",
        forwarded=(
            "doorgestuurd bericht|begin doorgestuurd bericht|doorgestuurde bericht|"
            "doorgestuurde e-mail|doorgestuurde mail|begin doorgestuurd e-mailbericht|"
            "doorgestuurd door|doorgezonden bericht|doorgestuurd e-mailbericht|"
            "begin van het doorgestuurde bericht|doorgestuurd bericht / fwd.msg"
        ),
        original=(
            "oorspronkelijk bericht|origineel bericht|oorspronkelijke bericht|"
            "oorspronkelijke e-mail|originele bericht|oorspronkelijke mail"
        ),
        from_="van|afzender",
        to="aan|naar|ontvanger|geadresseerde",
        cc="kopie|cc|kopie aan",
        date="datum|verzonden|verzonden op|verstuurd|verzonden om|tijd",
        subject="onderwerp|betreft",
        reply_to="antwoord aan|antwoord naar|beantwoorden",
        other="urgentie|bijlagen|bijlage|prioriteit|gevoeligheid",
        wrote=(
            "schreef|heeft geschreven|schrijft|het volgende geschreven|"
            "heeft het volgende geschreven"
        ),
        forward_prefix="doorst|dst|fwd|doorgestuurd",
        reply_prefix="antw|betr",
    ),
    Language(
        "fr",
        forwarded=(
            "message transféré|message réexpédié|début du message réexpédié|"
            "début du message transféré|message transfere|courriel transféré|e-mail transféré|"
            "mail transféré|transféré par|transmis par|message transmis|"
            "début du courriel réexpédié|réexpédié par|message suivi|faire suivre|"
            "corps du message transféré|message transféré / fwd.msg|message d'origine transféré|"
            "début de l’e-mail réexpédié|début du message renvoyé"
        ),
        original=(
            "message d'origine|message d’origine|message original|message initial|e-mail d'origine|"
            "courriel original|mail original|message precedent|message précédent|e-mail original|"
            "message d´origine"
        ),
        from_="de|expéditeur|envoyé par|de la part de|expediteur|émetteur",
        to="à|a|destinataire|pour|destinataires|envoyé à",
        cc="cc|copie à|copie|copie carbone|copies",
        bcc="cci|copie cachée à",
        date="date|envoyé|envoyé le|envoye|date d'envoi|reçu|heure",
        subject="objet|sujet|titre",
        reply_to="répondre à|répondre|réponse à",
        other="importance|pièces jointes|pièce jointe|priorité|organisation|pj",
        wrote="a écrit|écrivait|ecrivait|écrit|a ecrit|écrivit|à écrit|nous écrivait|vous a écrit",
        forward_prefix="tr|transf|transféré|fwd|réf",
        reply_prefix="re|ré|rep|rép",
    ),
    Language(
        "es",
        forwarded=(
            "mensaje reenviado|inicio del mensaje reenviado|mensaje enviado|"
            "mensaje reenviado / fwd.msg|comienzo del mensaje reenviado|"
            "empieza el mensaje reenviado|correo reenviado|e-mail reenviado|reenviado por|"
            "mensaje remitido|inicio de mensaje reenviado|correo electrónico reenviado|"
            "mensaje original reenviado|inicio del correo electrónico reenviado"
        ),
        original=(
            "mensaje original|correo original|e-mail original|"
            "mensaje de correo electrónico original|mensaje citado|correo electrónico original|"
            "mensaje anterior"
        ),
        from_="de|remitente|enviado por|desde",
        to="para|destinatario|a|destinatarios",
        cc="cc|copia|con copia a|copia a|con copia",
        bcc="cco|copia oculta",
        date="fecha|enviado|enviado el|enviada|fecha de envío|fecha y hora|enviado a las|recibido",
        subject="asunto|tema|título",
        reply_to="responder a|responder",
        other="importancia|datos adjuntos|adjuntos|prioridad|organización",
        wrote="escribió|escribio|escribe|ha escrito|wrote|escribía|redactó",
        forward_prefix="rv|reenv|reenviado|renv|fwd",
        reply_prefix="re|resp|rta",
    ),
    Language(
        "ca",
        forwarded=(
            "missatge reenviat|inici del missatge reenviat|comença el missatge reenviat|"
            "correu reenviat"
        ),
        original="missatge original|correu original",
        from_="de|remitent|des de",
        to="per a|a|per|destinatari",
        cc="a/c|còpia|cc",
        date="data|enviat|enviat el",
        subject="assumpte|tema",
        wrote="va escriure|ha escrit|escrigué",
        forward_prefix="rv|reenv",
    ),
    Language(
        "pt",
        forwarded=(
            "mensagem encaminhada|mensagem reencaminhada|início da mensagem encaminhada|"
            "início da mensagem reencaminhada|mensagem reenviada|e-mail encaminhado|"
            "encaminhado por|mensagem enviada|começo da mensagem encaminhada|"
            "inicio da mensagem reenviada|início da mensagem reenviada|email encaminhado|"
            "email reencaminhado|e-mail reencaminhado|mensagem encaminhada / fwd.msg|"
            "início de mensagem encaminhada|início do email encaminhado"
        ),
        original="mensagem original|e-mail original|email original|mensagem anterior",
        from_="de|remetente|enviado por",
        to="para|destinatário|a|destinatários",
        cc="cc|cópia|com cópia|c/c|c.c.",
        bcc="cco|bcc|cópia oculta",
        date=(
            "data|enviado|enviada|enviada em|enviado em|enviado a|data de envio|enviada a|date|"
            "recebido"
        ),
        subject="assunto|título",
        reply_to="responder a|responder para|responda a|responder",
        other="importância|anexos|anexo|prioridade|organização",
        wrote="escreveu|escreveu o seguinte|escreve|escreveram|escrevia|escreveu em",
        forward_prefix="enc|encaminhado|res enc|rve",
        reply_prefix="res|re|resp",
    ),
    Language(
        "it",
        forwarded=(
            "messaggio inoltrato|inizio messaggio inoltrato|inizio del messaggio inoltrato|"
            "messaggio inoltrato / fwd.msg|forwarded message|e-mail inoltrata|mail inoltrata|"
            "inoltrato da|messaggio rinviato|inizio email inoltrata|inizio messaggio rinviato|"
            "messaggio inoltrato di seguito|inizio della mail inoltrata"
        ),
        original=(
            "messaggio originale|messaggio originario|e-mail originale|mail originale|"
            "messaggio di origine|messaggio precedente"
        ),
        from_="da|mittente|inviato da|di",
        to="a|destinatario|per|destinatari",
        cc="cc|copia|per conoscenza|p.c.|copia a",
        bcc="ccn",
        date="data|inviato|inviato il|data invio|ricevuto|ora",
        subject="oggetto|soggetto",
        reply_to="rispondi a|rispondere a",
        other="importanza|allegati|allegato|priorità|organizzazione|priorita",
        wrote="ha scritto|scrive|scrisse|scriveva|hanno scritto|ha scritto il",
        forward_prefix="i|inoltro|inol|inoltra|ri",
        reply_prefix="r|rif|ris|risp",
    ),
    Language(
        "ro",
        forwarded=(
            "mesaj redirecționat|mesaj redirecţionat|mesajul redirecționat|"
            "începutul mesajului redirecționat|început mesaj redirecționat|mesaj retransmis|"
            "mesaj redirectionat|mesaj înaintat|mesaj transmis mai departe|mesaj forwardat|"
            "început mesaj redirecţionat|începe mesajul redirecționat|mesajul retransmis|"
            "începutul mesajului redirecţionat"
        ),
        original="mesaj original|mesajul original|mesaj iniţial|mesaj inițial|mesajul inițial",
        from_="de la|expeditor|de",
        to="către|catre|destinatar|pentru|la",
        cc="cc|copie|copie către|copie la",
        date="data|trimis|trimis la|dată|expediat|trimis pe",
        subject="subiect|subiectul|titlu",
        wrote="a scris|scrie|au scris",
        reply_to="răspundeți la|răspunde la|răspuns la",
        forward_prefix="redir|fwd|fw|trim",
        reply_prefix="re|răsp|ras|răspuns",
    ),
)

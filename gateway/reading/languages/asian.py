"""Languages of East, South and West Asia, with Hebrew, Arabic and Persian."""

from __future__ import annotations

from typing import Final

from gateway.reading.languages.table import Language

TABLES: Final = (
    Language(
        "ja",
        forwarded=(
            "転送メッセージ|転送されたメッセージ|転送メール|転送されたメール|以下転送|転送|"
            "転送元のメッセージ|引用元メール|転送メッセージ / fwd.msg|転送されたメール メッセージ|"
            "始めに転送されたメッセージ|以下、転送|以下転送メール"
        ),
        original=(
            "元のメッセージ|元のメール|元メッセージ|オリジナルメッセージ|original message|原文|"
            "元の予定"
        ),
        from_="差出人|送信者|送信元|発信者|from",
        to="宛先|送信先|to|受信者|あて先",
        cc="cc|写し|カーボンコピー",
        bcc="bcc",
        date="日付|送信日時|送信日|日時|送信|受信日時|date|送信時刻",
        subject="件名|題名|タイトル|表題",
        reply_to="返信先",
        other="重要度|添付ファイル|優先度",
        wrote=(
            "さんは書きました|のメール|は書きました|のメッセージ|さんが書きました|さんからのメール|"
            "wrote|さんのメッセージ|が書き込みました|は以下のように書きました|書きました|のメール:"
        ),
        forward_prefix="転送|fw|fwd",
        reply_prefix="返信|re",
    ),
    Language(
        "zh",
        forwarded=(
            "转发的邮件|转发邮件|转发信息|转发邮件信息|轉寄郵件|轉寄的郵件|轉寄的訊息|"
            "转发的邮件信息|开始转发的邮件|以下是转发的邮件|下面是被转发的邮件|開始轉寄郵件|"
            "轉寄信件|转寄邮件|被转发的邮件|转发消息|轉發郵件|轉發的郵件|轉寄訊息|转发的消息|转发|"
            "轉寄|已转发邮件|转发邮件开始|已轉寄的郵件|开始转发邮件|轉發訊息|已转发的邮件|"
            "转发的信息|以下是轉寄的郵件|轉寄郵件訊息"
        ),
        original=(
            "原始邮件|原邮件|邮件原件|原始郵件|原始訊息|原始信件|原始消息|原信|回复的原邮件|原郵件|"
            "回复的邮件|原始约会|原始信息|原文"
        ),
        from_="发件人|寄件者|寄件人|發件人|发送者|发信人|來自|来自|發信人|自|寄信人|发自",
        to="收件人|收件者|收信人|发送至|發送至|致|收信者|发给",
        cc="抄送|副本|抄送人|副本抄送|cc|抄送至",
        bcc="密送|密件副本|密件抄送",
        date=(
            "日期|发送时间|发送日期|寄件日期|發送時間|時間|时间|傳送日期|已发送|傳送時間|發送日期|"
            "寄送日期|发件时间|已傳送|发送|送件時間|寄件時間"
        ),
        subject="主题|主旨|主題|标题|標題",
        reply_to="回复|回覆|答复|回复至|回复地址|答复至",
        other="重要性|附件|优先级",
        wrote="写道|寫道|写了|寫了|写|寫|撰写|撰寫|寫下|说道|编写|來信|说|發表",
        forward_prefix="转发|轉寄|转寄|轉發|转|轉",
        reply_prefix="回复|回覆|答复|答覆|回",
    ),
    Language(
        "ko",
        forwarded=(
            "전달된 메시지|전달된 메일|전달 메시지|전달된 이메일|전달받은 메시지|전달한 메시지|"
            "전달된 편지|다음은 전달된 메시지입니다|전달된 메시지 시작|전달 메일|"
            "전달된 메시지의 시작|전달받은 메일"
        ),
        original=(
            "원본 메시지|원본 메일|원본메일|original message|원래 메시지|원문|원본 이메일|원본 편지"
        ),
        from_="보낸 사람|발신|보낸사람|발신자|보낸이|보낸 이",
        to="받는 사람|수신|받는사람|수신자|받는이|받는 이",
        cc="참조|cc|참조자",
        bcc="숨은 참조",
        date="보낸 날짜|날짜|발신일|보낸날짜|일시|보낸 시간|전송 날짜|보낸시간|발신 시간|보냄",
        subject="제목|주제",
        reply_to="회신 대상|답장 받는 사람|회신",
        wrote=(
            "작성|님이 작성|님이 작성:|님이 쓴 글|썼습니다|님이 작성했습니다|쓰셨습니다|"
            "작성했습니다|작성하였습니다|님께서 작성|님이 쓴|에 작성|쓴 글"
        ),
        forward_prefix="전달|fw|fwd",
        reply_prefix="회신|답장|re",
    ),
    Language(
        "vi",
        forwarded=(
            "thư được chuyển tiếp|tin nhắn được chuyển tiếp|thư đã chuyển tiếp|"
            "bắt đầu thư được chuyển tiếp|bắt đầu tin nhắn được chuyển tiếp|thư chuyển tiếp|"
            "email được chuyển tiếp|tin nhắn đã chuyển tiếp|bắt đầu thư chuyển tiếp"
        ),
        original="thư gốc|tin nhắn gốc|thư ban đầu|tin nhắn ban đầu|email gốc",
        from_="từ|người gửi",
        to="đến|tới|người nhận|gửi đến|gửi tới",
        cc="cc|đồng gửi|đồng kính gửi",
        date="ngày|đã gửi|ngày gửi|gửi|thời gian|vào lúc|gửi lúc|date",
        subject="chủ đề|tiêu đề|chủ đề:",
        wrote="đã viết|viết|wrote|đã viết như sau",
        forward_prefix="chuyển tiếp|fwd|ct",
        reply_prefix="trả lời|re|tl",
    ),
    Language(
        "th",
        forwarded="ข้อความที่ส่งต่อ|ข้อความส่งต่อ|เริ่มข้อความที่ส่งต่อ|จดหมายที่ส่งต่อ",
        original="ข้อความต้นฉบับ|ข้อความเดิม",
        from_="จาก|ผู้ส่ง",
        to="ถึง|ผู้รับ",
        cc="สำเนา|สำเนาถึง",
        date="วันที่|ส่ง|เมื่อ|วันที่ส่ง",
        subject="เรื่อง|หัวเรื่อง|หัวข้อ",
        wrote="เขียนว่า|เขียน|เขียนไว้ว่า",
        forward_prefix="ส่งต่อ",
        reply_prefix="ตอบกลับ",
    ),
    Language(
        "id",
        forwarded=(
            "pesan terusan|pesan yang diteruskan|mulai pesan terusan|pesan diteruskan|"
            "awal pesan yang diteruskan|mesej yang dimajukan|mesej dimajukan|email yang diteruskan|"
            "awal pesan terusan|mula mesej yang dimajukan"
        ),
        original="pesan asli|pesan asal|mesej asal|email asli",
        from_="dari|pengirim|daripada",
        to="kepada|untuk|penerima|ke",
        cc="cc|tembusan|salinan",
        date="tanggal|dikirim|terkirim|tarikh|dihantar|waktu|pada",
        subject="subjek|perihal|judul|hal|subyek",
        wrote="menulis|tulis|wrote|menulis:",
        forward_prefix="trs|terusan|fwd|teruskan",
        reply_prefix="bls|balas|re",
    ),
    Language(
        "he",
        forwarded=(
            "הודעה מועברת|תחילת הודעה מועברת|הודעה שהועברה|תחילת ההודעה המועברת|הועברה הודעה|"
            "דואר מועבר"
        ),
        original="הודעה מקורית|ההודעה המקורית",
        from_="מאת|מ|שולח|מ-",
        to="אל|ל|נמען|עבור|ל-",
        cc="עותק|העתק|cc|העתק אל",
        date="תאריך|נשלח|בתאריך|נשלח ב",
        subject="נושא|הנדון",
        wrote="כתב|כתבה|מאת|כתב/ה|כתב:|כתב/ה:",
        forward_prefix="הועבר|העברה|fw|הע|fwd",
        reply_prefix="השב|תגובה|הת",
    ),
    Language(
        "ar",
        forwarded=(
            "رسالة معاد توجيهها|رسالة مُعاد توجيهها|بدء الرسالة المعاد توجيهها|"
            "الرسالة المعاد توجيهها|رسالة محولة|بدء رسالة معاد توجيهها|رسالة معادة التوجيه|"
            "بداية الرسالة المعاد توجيهها|الرسالة المحولة|رسالة تمت إعادة توجيهها"
        ),
        original="الرسالة الأصلية|رسالة أصلية|الرسالة الاصلية",
        from_="من|المرسل",
        to="إلى|الى|المستلم|المرسل إليه",
        cc="نسخة|نسخة إلى|cc|نسخة الى|نسخة كربونية",
        date="التاريخ|تاريخ|تم الإرسال|أُرسلت|تاريخ الإرسال|الإرسال|تم الإرسال في|أرسلت|مرسل",
        subject="الموضوع|موضوع|العنوان",
        wrote="كتب|كتبت|كتب ما يلي|كتب/ت|كتب:",
        forward_prefix="إعادة توجيه|تحويل|إعادة",
        reply_prefix="رد",
    ),
    Language(
        "fa",
        forwarded=(
            "پیام فوروارد شده|پیام ارسال شده|پیغام فوروارد شده|پیام هدایت‌شده|پیام هدایت شده|"
            "شروع پیام هدایت شده|پیام بازارسال شده"
        ),
        original="پیام اصلی|پیغام اصلی",
        from_="از|فرستنده",
        to="به|گیرنده",
        cc="رونوشت|کپی",
        date="تاریخ|ارسال شده|ارسال",
        subject="موضوع|عنوان",
        wrote="نوشت|نوشته|نوشته است",
        forward_prefix="فوروارد|هدایت",
        reply_prefix="پاسخ",
    ),
    Language(
        "hi",
        forwarded="अग्रेषित संदेश|फ़ॉरवर्ड किया गया संदेश|अग्रेषित मेल|फॉरवर्ड किया गया संदेश",
        original="मूल संदेश|मूल मेल",
        from_="से|प्रेषक|द्वारा",
        to="को|प्राप्तकर्ता|प्रति",
        cc="प्रतिलिपि|सीसी",
        date="दिनांक|भेजा गया|तारीख|तिथि",
        subject="विषय",
        wrote="ने लिखा|लिखा|लिखा है",
        forward_prefix="अग्रे|फ़ॉरवर्ड",
    ),
)

"""How the words of the synthetic corpus's English sentences are pronounced: ARPAbet with stress digits.

Written for this vocabulary, in general American, one pronunciation per word whatever the accent of the voice: phone
recognition scores the phones a lexicon expects, as SUPERB does with LibriSpeech's.
"""

from speechssl.errors import UserError

_WORDS = """
a AH0
after AE1 F T ER0
and AH0 N D
apples AE1 P AH0 L Z
at AE1 T
basket B AE1 S K AH0 T
baskets B AE1 S K AH0 T S
before B IH0 F AO1 R
behind B IH0 HH AY1 N D
beside B IH0 S AY1 D
birds B ER1 D Z
blanket B L AE1 NG K AH0 T
blue B L UW1
bottle B AA1 T AH0 L
bottles B AA1 T AH0 L Z
bought B AO1 T
box B AA1 K S
boxes B AA1 K S AH0 Z
break B R EY1 K
broken B R OW1 K AH0 N
brother B R AH1 DH ER0
by B AY1
captain K AE1 P T AH0 N
carried K AE1 R IY0 D
catch K AE1 CH
chair CH EH1 R
chairs CH EH1 R Z
child CH AY1 L D
clean K L IY1 N
cold K OW1 L D
cool K UW1 L
dark D AA1 R K
don't D OW1 N T
door D AO1 R
drop D R AA1 P
dry D R AY1
empty EH1 M P T IY0
every EH1 V R IY0
farm F AA1 R M
farmer F AA1 R M ER0
father F AA1 DH ER0
find F AY1 N D
fire F AY1 ER0
five F AY1 V
forget F ER0 G EH1 T
found F AW1 N D
friday F R AY1 D EY2
full F UH1 L
garden G AA1 R D AH0 N
green G R IY1 N
heavy HH EH1 V IY0
her HH ER1
here HH IY1 R
hide HH AY1 D
home HH OW1 M
horses HH AO1 R S AH0 Z
i AY1
in IH1 N
is IH1 Z
it's IH1 T S
keep K IY1 P
ladder L AE1 D ER0
lake L EY1 K
lamp L AE1 M P
leave L IY1 V
let's L EH1 T S
letter L EH1 T ER0
letters L EH1 T ER0 Z
lost L AO1 S T
lunch L AH1 N CH
morning M AO1 R N IH0 NG
move M UW1 V
my M AY1
near N IH1 R
nine N AY1 N
old OW1 L D
on AA1 N
painted P EY1 N T AH0 D
put P UH1 T
quiet K W AY1 AH0 T
red R EH1 D
river R IH1 V ER0
seven S EH1 V AH0 N
shelf SH EH1 L F
sing S IH1 NG
sister S IH1 S T ER0
small S M AO1 L
sold S OW1 L D
station S T EY1 SH AH0 N
sunday S AH1 N D EY2
swim S W IH1 M
table T EY1 B AH0 L
teacher T IY1 CH ER0
the DH AH0
this DH IH1 S
three TH R IY1
throw TH R OW1
today T AH0 D EY1
together T AH0 G EH1 DH ER0
tonight T AH0 N AY1 T
touch T AH1 CH
train T R EY1 N
twenty T W EH1 N T IY0
two T UW1
under AH1 N D ER0
visit V IH1 Z AH0 T
wait W EY1 T
walk W AO1 K
want W AA1 N T
warm W AO1 R M
white W AY1 T
who HH UW1
window W IH1 N D OW0
windy W IH1 N D IY0
winter W IH1 N T ER0
wooden W UH1 D AH0 N
yellow Y EH1 L OW0
your Y AO1 R
"""
LEXICON = {word: phones for word, *phones in map(str.split, _WORDS.strip().splitlines())}


def pronounce(text: str) -> list[str]:
    """Return the phones of a text in any case, word after word.

    Raises:
        UserError: a word is not in the lexicon.
    """
    words = text.lower().split()
    unknown = [word for word in words if word not in LEXICON]
    if unknown:
        raise UserError(f"no pronunciation of {unknown[0]!r} in {text!r}; the lexicon has {len(LEXICON)} words")
    return [phone for word in words for phone in LEXICON[word]]

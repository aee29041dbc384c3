"""Names of splits and folds as people write them: `seg_train`, `train2017`, `Testing`, `01-valid_set`, `fold_3`.

A name is cut into words. Words for a split count, and numbers and words that any folder may have (images,
set, v2) do not. What is left says of what the split is: `seg` in `seg_train`. A single name proves little,
since `test_tube` may be a class. `read_names` therefore judges the names that stand together.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from darkroom.config.params import SPLITS

_SPELLINGS = {
    "train": "train training trains trained trn trng entrenamiento entrenar entreno treino treinamento treinar entrainement "
    "apprentissage trainings addestramento treningowy trening traening traning tranings trenovaci learn learning lern lernen "
    "egitim обучение обучающая трейн тренировка "
    "训练 訓練 学習 學習 トレーニング 학습 훈련",
    "val": "val valid validation validate validating validated vali vald minival dev devel development tune tuning vld "
    "validacion validacao validierung validierungs validazione walidacja dogrulama валидация 验证 驗證 検証 バリデーション 검증",
    "test": "test testing tests tested tst holdout prueba pruebas probar teste testen testi teszt testovaci testning prova essai "
    "pruf prufung prufungs тест тестовая "
    "测试 測試 テスト 테스트 시험",
    "eval": "eval evaluation evaluate evaluating 評価 评估 평가",
    "unlabelled": "unlabelled unlabeled unsupervised unsup pred predict prediction predictions inference nolabel nolabels",
}  # fmt: skip
_KINDS = {unicodedata.normalize("NFC", word): kind for kind, words in _SPELLINGS.items() for word in words.split()}
_WHOLE = {"tr": "train", "va": "val", "vd": "val", "te": "test", "ts": "test"}  # only where nothing else is in the name
_GENERIC = frozenset(
    "image images img imgs imagery pic pics picture pictures photo photos jpg jpeg png jpegs pngs data dataset datasets set sets "
    "split splits folder folders dir file files sample samples subset part partition label labels labelled labeled class classes "
    "the my of for and v ver version new final full all raw clean cleaned resized cropped original small large mini "
    "size px k extra additional more menge daten bilder fotos ensemble conjunto jeu "
    "集 集合 数据 數據 数据集 データ データセット 用 画像 图片 图像 圖片 데이터 데이터셋 세트 이미지 용".split()
)
_FOLDS = {"fold", "folds", "kfold", "cv", "crossval", "xval", "split", "partition", "pliegue", "falte"}
_BATCHES = frozenset(
    "batch part chunk shard block upload import subset session folder dir disk card roll set group box bag archive "
    "apple canon nikon nikond msdcf gopro olymp media fuji pana ricoh dcim lot charge delivery".split()
)
_LONG = sorted((word for word in _KINDS if len(word) > 2 or not word.isascii()), key=len, reverse=True)
_COMPOUND = re.compile(
    f"(?:({'|'.join(sorted(_GENERIC - {'v', 'k'}, key=len, reverse=True))})?({'|'.join(_LONG)})|({'|'.join(_LONG)}))"
    f"({'|'.join(sorted(_GENERIC - {'v', 'k'}, key=len, reverse=True))})*$"
)


class SplitName(NamedTuple):
    """A name with a word for a split: train, val, test, eval or unlabelled, and the words that are left."""

    kind: str
    rest: tuple[str, ...]
    is_last: bool  # no word follows that for the split


class NamedSplits(NamedTuple):
    """The splits (or `unlabelled`) that names mean, or the reason why the names need a decision."""

    splits: dict[str, str]
    question: str = ""


def words(name: str) -> list[str]:
    """Return the words and numbers of a name, without case and accents: ["seg", "train", "2"] of `segTrain_2`."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]{2})", " ", unicodedata.normalize("NFKC", name))
    text = "".join(c for c in unicodedata.normalize("NFD", text.casefold()) if not ("\u0300" <= c <= "\u036f"))
    text = re.sub(r"\bh[eo]ld[\W_]*out\b|holdout", "holdout", unicodedata.normalize("NFC", text))
    text = re.sub(r"(?<![^\W\d_])(no|un)[\W_]+(label\w*)", r"\1\2", text)
    return re.findall(r"[^\W\d_]+|\d+", text)


def _kind_of(word: str) -> str:
    """Return the kind of split that a word says, also within `trainset` or `testimages`; empty for others."""
    if word in _KINDS:
        return _KINDS[word]
    match = _COMPOUND.match(word)
    return _KINDS[match[2] or match[3]] if match else ""


def read_name(name: str) -> SplitName | None:
    """Return what a name says of a split; None where it has no word for one, or for several."""
    parts = [part for part in words(name) if not part.isdigit()]
    if len(parts) == 1 and parts[0] in _WHOLE:
        return SplitName(_WHOLE[parts[0]], (), True)
    if parts and parts[-1] == "trainval":
        parts[-1] = "train"
    kinds = [_kind_of(part) for part in parts]
    distinct = {kind for kind in kinds if kind}
    if distinct == {"train", "val"}:  # train_val: all that is not test
        distinct = {"train"}
    if len(distinct) != 1:
        return None
    rest = tuple(part for part, kind in zip(parts, kinds, strict=True) if not kind and part not in _GENERIC and len(part) > 1)
    significant = [kind for part, kind in zip(parts, kinds, strict=True) if kind or (part not in _GENERIC and len(part) > 1)]
    return SplitName(distinct.pop(), rest, bool(significant[-1]))


def fold_of(name: str) -> str:
    """Return the number or letter of a fold (`fold_1`, `cv-3`, `split B`); empty where a name is none."""
    parts = words(name)
    numbers = [part for part in parts if part.isdigit() or len(part) == 1]
    return numbers[-1] if numbers and any(part in _FOLDS for part in parts) and read_name(name) is None else ""


def batch_like(names: Iterable[str]) -> bool:
    """Tell whether names are of batches (`batch1`, `batch2`; `100CANON`; dates), which are seldom classes."""
    cut = [words(name) for name in names]
    if len(cut) < 2 or not all(any(part.isdigit() for part in parts) for parts in cut):
        return False
    texts = {tuple(part for part in parts if not part.isdigit()) for parts in cut}
    dates = all(sum(len(part) for part in parts if part.isdigit()) >= 6 for parts in cut)
    return len(texts) == 1 and (any(part in _BATCHES for part in texts.pop()) or dates)


def read_names(names: Iterable[str], similar: bool = False, nested: bool = False) -> NamedSplits:
    """Return the splits that names standing together mean; none where they are names of something else.

    `similar` tells that the folders of these names hold the same subfolders, `nested` that a folder whose
    name is a split and nothing more holds subfolders. All names are splits where each has a word for one and
    is of the same thing (`seg_train`, `seg_test`), or the folders are similar. Where only some names are
    splits, or two say the same one, there is a question.
    """
    ordered = sorted(names)
    read = {name: reading for name in ordered if (reading := read_name(name)) is not None}
    others = [name for name in ordered if name not in read]
    families: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, reading in read.items():
        families[reading.rest].append(name)
    whole = {rest: members for rest, members in families.items() if _is_family([read[name].kind for name in members])}
    plain = families.get((), [])
    if similar and not others and _is_family([reading.kind for reading in read.values()]):
        return _resolve({name: reading.kind for name, reading in read.items()})
    if len(whole) > 1:
        return NamedSplits({}, f"{_listed(name for group in whole.values() for name in group)} name splits of several things")
    if whole:
        members = next(iter(whole.values()))
        rest = [name for name in ordered if name not in members and not (name in plain and read[name].kind == "unlabelled")]
        if rest:
            return NamedSplits({}, f"the split folders {_listed(members)} and beside them {_listed(rest)}")
        return _resolve({name: read[name].kind for name in ordered})
    if plain and not others and len(plain) == len(ordered):
        return _resolve({name: read[name].kind for name in plain})
    proper = [name for name in plain if read[name].kind in SPLITS]
    if proper and (others or len(families) > 1) and (nested or len({read[name].kind for name in proper}) > 1):
        beside = [name for name in ordered if name not in proper]
        return NamedSplits({}, f"the split folders {_listed(proper)} and beside them {_listed(beside)}")
    if (
        len(read) == len(ordered) > 1
        and _is_family([reading.kind for reading in read.values()])
        and all(s.is_last for s in read.values())
    ):
        return NamedSplits({}, f"{_listed(ordered)} are named like splits of different things")
    return NamedSplits({})


def _is_family(kinds: list[str]) -> bool:
    return "train" in kinds and len(set(kinds) - {"unlabelled"}) > 1


def _resolve(kinds: dict[str, str]) -> NamedSplits:
    """Return the splits, or the question where two folders mean one or there is no train."""
    splits = _with_eval(kinds)
    for split in SPLITS:
        twice = [name for name, kind in splits.items() if kind == split]
        if len(twice) > 1:
            return NamedSplits(splits, f"{_listed(twice)} all mean the split {split}")
    if "train" not in splits.values():
        return NamedSplits(splits, f"there is {_listed(splits)} and no train folder")
    return NamedSplits(splits)


def read_values(values: Iterable[str]) -> dict[str, str] | None:
    """Return the split of each value of a table's column, several spellings of one included; None for other values."""
    distinct = sorted(set(values) - {""})
    read = {value: read_name(value) for value in distinct}
    if not distinct or any(reading is None or reading.kind == "unlabelled" for reading in read.values()):
        return None
    kinds = {value: reading.kind for value, reading in read.items() if reading is not None}
    return _with_eval(kinds)


def _with_eval(kinds: dict[str, str]) -> dict[str, str]:
    """Return the split of each kind: `eval` is val, or test where there is a val and no test."""
    present = set(kinds.values())
    meant = "test" if "val" in present and "test" not in present else "val"
    return {name: meant if kind == "eval" else kind for name, kind in kinds.items()}


def _listed(names: Iterable[str]) -> str:
    ordered = list(names)
    return ", ".join(ordered[:4]) + (", …" if len(ordered) > 4 else "")

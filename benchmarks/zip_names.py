"""Measure how often the code page of a zip's names is guessed rightly: python benchmarks/zip_names.py [--draws 500]

For each language, sets of 2 to 8 class names are drawn from its words and encoded as Windows of that language does.
A guess is right where the decoded names are the words; a wrong one is named in a warning all the same.
"""

from __future__ import annotations

import argparse
import random

from darkroom.data import zip_names

WORDS = {
    "German cp850": "Äpfel Birnen Nüsse Straße Größe Löwe Bär Käfer Vögel Hühner Katze Hund",
    "French cp850": "pêche forêt café hérisson chêne abricot éléphant fenêtre garçon âne chat chien",
    "Spanish cp850": "piña niño señal camión león pájaro cigüeña árbol ratón águila gato perro",
    "Portuguese cp850": "maçã limão pão leão coração avião São cão pássaro árvore gato flor",
    "Danish cp850": "æble pære blåbær jordbær rødbede køter fårekød ørn måge gås kat hund",
    "Polish cp852": "jabłko śliwka żółw gęś łabędź słoń róża ćma wąż źrebię kot pies",
    "Czech cp852": "jablko třešeň hruška švestka růže lev kůň žába včela čáp kočka pes",
    "Hungarian cp852": "körte szőlő alma cseresznye őszibarack málna gyümölcs hős bőr kutya macska ló",
    "Russian cp866": "яблоко груша слива кошка собака лошадь Роза Тюльпан дуб берёза трещина норма",
    "Greek cp737": "μήλο αχλάδι γάτα σκύλος άλογο τριαντάφυλλο ελιά δρυς λιοντάρι αετός ρόδι σύκο",
    "Japanese cp932": "りんご みかん 猫 犬 表示 バラ チューリップ 正常 異常 良品 不良品 赤りんご",
    "Chinese gbk": "苹果 梨 香蕉 猫 狗 玫瑰 郁金香 正常 异常 良品 不良品 裂纹",
    "Chinese big5": "蘋果 梨子 香蕉 貓 狗 玫瑰 鬱金香 正常 異常 良品 不良品 裂紋",
    "Korean cp949": "사과 배 바나나 고양이 개 장미 튤립 정상 불량 균열 참나무 소나무",
}
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used")
    parser.add_argument("--draws", type=int, default=500)
    draws = parser.parse_args().draws
    for language, words in WORDS.items():
        draw, page = random.Random(SEED), language.split()[-1]
        right = listed = foreign = 0
        for _ in range(draws):
            names = draw.sample(words.split(), draw.randint(2, 8))
            raw = [name.encode(page) for name in names]
            if all(name.isascii() for name in raw):
                continue
            foreign += 1
            guesses = zip_names.guess(raw)
            right += [name.decode(guesses[0], "replace") for name in raw] == names
            listed += any([name.decode(guess, "replace") for name in raw] == names for guess in guesses)
        print(f"{language:18} right {right / foreign:.3f}, right or named in the warning {listed / foreign:.3f} of {foreign}")


if __name__ == "__main__":
    main()

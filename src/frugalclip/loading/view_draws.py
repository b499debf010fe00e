"""Which of a row's random numbers decides what in a view. A new option takes new ones; others stay."""

TRIES = 10  # torchvision's number of attempts before the centre crop
AREA, RATIO = slice(0, TRIES), slice(TRIES, 2 * TRIES)  # of a crop
AROUND = slice(0, 4)  # a view around others draws no crop of its own
TOP, LEFT = 20, 21  # of a crop
FLIP = 22
JITTERED, FACTORS = 23, slice(24, 28)
GRAY = 28
BLURRED, SIGMA = 29, 30
SOLARIZED = 31
DRAWS = 32  # in all

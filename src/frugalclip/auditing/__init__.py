"""What a data set holds, and what a model will make of it: concepts, their frequency, and noise."""

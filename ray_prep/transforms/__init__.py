"""The steps of a chain: native ones, Albumentations' and the user's own; `chain` reads and runs them."""

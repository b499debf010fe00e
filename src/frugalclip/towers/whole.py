"""What towers have in common that read every patch and have no [CLS]: convolutions, and backbones of others."""

from frugalclip.core.errors import RecipeError


class ReadsWhole:
    """A tower that neither drops patches nor gives the attention of [CLS]."""

    refusal: str  # how a sentence ends that begins with what an objective wants

    def check_can(self, *, drops: bool, attends: bool) -> None:
        """Refuse what this tower does not do: to drop patches, or to give the attention of [CLS].

        Raises:
            RecipeError: with a setting that helps.
        """
        if drops or attends:
            raise RecipeError(
                f"an objective {'drops patches' if drops else 'reads the attention of [CLS]'}, which {self.refusal}"
            )

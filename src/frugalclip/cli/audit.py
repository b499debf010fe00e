"""The verbs of audits: concepts, frequency, leakage, noise, predict, tail, groups."""

from typing import Annotated, Literal

import typer

from frugalclip.cli.groups import PATHS, DataPath, DataPaths, Json, Model, Where, audit, places_and_columns


@audit.command(epilog=PATHS)
def concepts(
    paths: DataPaths,
    *,
    classes: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Concepts, one a line, synonyms after |.", show_default=False),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(metavar="F", help="Field whose values are the concepts.", show_default=False),
    ] = None,
    least: Annotated[int, typer.Option(min=1, metavar="N", help="Rows of a mined concept, at least.")] = 10,
    match: Annotated[
        Literal["all_words", "phrase"],
        typer.Option(help="All words of a concept in a caption, or as a phrase."),
    ] = "all_words",
    language: Annotated[str, typer.Option(metavar="L", help="Language of the captions.")] = "en",
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Also count in images, by its cosines.", show_default=False),
    ] = None,
    tags: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Also count in images, by a tagger's scores.", show_default=False),
    ] = None,
    threshold: Annotated[float, typer.Option(metavar="T", help="Of a tagger's scores.")] = 0.7,
    deviations: Annotated[
        float, typer.Option(metavar="D", help="Of a concept's cosines above their median.")
    ] = 3.0,
    postings: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Keep the index of captions there.", show_default=False),
    ] = None,
    released: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Also write the published counts' format.", show_default=False),
    ] = None,
    where: Where = None,
    json: Json = None,
) -> None:
    """Count concepts in captions, images and both.

    Without --classes and --field, concepts are mined from the captions (experimental).
    """
    from frugalclip.verbs import audit_concepts as verb

    places, columns = places_and_columns(paths)
    verb.show(
        verb.audit_concepts(
            places,
            classes=classes,
            field=field,
            least=least,
            match=match,
            language=language,
            model=model,
            tags=tags,
            threshold=threshold,
            deviations=deviations,
            postings=postings,
            released=released,
            where=where,
            columns=columns,
            json=json,
        )
    )


@audit.command(epilog=PATHS)
def leakage(
    train: Annotated[str, typer.Argument(metavar="TRAIN", help="The training data.")],
    test: Annotated[str, typer.Argument(metavar="TEST", help="What a model is evaluated on.")],
    *,
    where: Where = None,
    test_where: Annotated[
        str | None, typer.Option(metavar="W", help="Test rows to keep.", show_default=False)
    ] = None,
    similarity: Annotated[
        float, typer.Option(min=0.5, max=1, metavar="S", help="Of pictures that count as one.")
    ] = 0.95,
    caption_similarity: Annotated[
        float, typer.Option(min=0.5, max=1, metavar="S", help="Of captions that count as one.")
    ] = 0.8,
    repair: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Manifest of the training rows that do not leak.", show_default=False
        ),
    ] = None,
    captions: Annotated[
        bool, typer.Option("--captions", metavar="", help="Leave out rows that share a caption too.")
    ] = False,
    json: Json = None,
) -> None:
    """Find test rows that the training data holds.

    Pictures that are equal, saved anew, cropped, turned or mirrored, and specific captions.
    """
    from frugalclip.verbs import audit_leakage as verb

    verb.show(
        verb.audit_leakage(
            train,
            test,
            where=where,
            test_where=test_where,
            similarity=similarity,
            caption_similarity=caption_similarity,
            repair=repair,
            captions=captions,
            json=json,
        )
    )


@audit.command(epilog=PATHS)
def frequency(
    counts: Annotated[
        str, typer.Argument(metavar="COUNTS", help="What audit concepts --json wrote for the training data.")
    ],
    results: Annotated[
        list[str] | None,
        typer.Argument(metavar="RESULT...", help="JSON of evaluate --task zeroshot.", show_default=False),
    ] = None,
    *,
    other_counts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="The same data counted otherwise, such as with another threshold; may be repeated.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Evaluate this model here.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="What it is evaluated on.", show_default=False)
    ] = None,
    task: Annotated[
        Literal["zeroshot", "retrieval"], typer.Option(help="Top 1 of classes, or recall of concepts.")
    ] = "zeroshot",
    where: Where = None,
    label_field: Annotated[
        str | None, typer.Option(metavar="F", help="Field with the class of a row.", show_default=False)
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET", help="Prompt set of --model, as in evaluate; may be repeated.", show_default=False
        ),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, metavar="K", help="Of recall@K.")] = 1,
    least: Annotated[int, typer.Option(min=1, metavar="N", help="Samples that a concept needs.")] = 1,
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write a page with plots.", show_default=False)
    ] = None,
    json: Json = None,
) -> None:
    """Relate accuracy to how often the training data holds a concept.

    The published fit of bin means, and beside it what holds for single concepts, with intervals.
    """
    from frugalclip.verbs import audit_frequency as verb

    verb.show(
        verb.audit_frequency(
            counts,
            results or (),
            other_counts=other_counts or (),
            model=model,
            data=data,
            task=task,
            where=where,
            label_field=label_field,
            prompts=prompts or (),
            depth=depth,
            least=least,
            report=report,
            json=json,
        )
    )


@audit.command(epilog=PATHS)
def noise(
    path: DataPath,
    *,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A model that was not trained on the data.", show_default=False),
    ] = None,
    where: Where = None,
    language: Annotated[str, typer.Option(metavar="L", help="Language of the captions.")] = "en",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of folds.")] = 0,
    json: Json = None,
) -> None:
    """Rank pairs whose picture and caption may not belong together (experimental).

    By LEMoN's neighbours and cosines of a model; without one, by descriptors and words.
    """
    from frugalclip.verbs import audit_noise as verb

    verb.show(verb.audit_noise(path, model=model, where=where, language=language, seed=seed, json=json))


@audit.command(epilog=PATHS)
def tail(
    counts: Annotated[
        str, typer.Argument(metavar="COUNTS", help="What audit concepts --json wrote for the training data.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="Models to evaluate on head and tail.", show_default=False),
    ] = None,
    *,
    data: Annotated[str, typer.Option(metavar="PATH", help="Labelled test data.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="Manifest of the tail to write.")],
    label_field: Annotated[
        str | None, typer.Option(metavar="F", help="Field with the class of a row.", show_default=False)
    ] = None,
    where: Where = None,
    classes: Annotated[int, typer.Option(min=2, metavar="N", help="Classes of the tail.")] = 20,
    least: Annotated[int, typer.Option(min=1, metavar="N", help="Images that a class needs.")] = 5,
    json: Json = None,
) -> None:
    """Write a test set of the rarest classes, and evaluate models on it (experimental).

    Near duplicates are left out, and every class has the same number of images.
    """
    from frugalclip.verbs import audit_tail as verb

    verb.show(
        verb.audit_tail(
            counts,
            data=data,
            out=out,
            models=models or (),
            label_field=label_field,
            where=where,
            classes=classes,
            least=least,
            json=json,
        )
    )


@audit.command(epilog=PATHS)
def groups(
    model: Model,
    *,
    data: Annotated[str, typer.Option(metavar="PATH", help="What it is evaluated on.")],
    field: Annotated[str, typer.Option(metavar="F", help="Field whose values are the groups.")],
    task: Annotated[
        Literal["zeroshot", "retrieval"], typer.Option(help="Top 1 of pictures, or recall of captions.")
    ] = "zeroshot",
    where: Where = None,
    label_field: Annotated[
        str | None, typer.Option(metavar="F", help="Field with the class of a row.", show_default=False)
    ] = None,
    least: Annotated[int, typer.Option(min=1, metavar="N", help="Samples of a group.")] = 10,
    json: Json = None,
) -> None:
    """Take a metric apart by a field, with intervals and a test of the gap."""
    from frugalclip.verbs import audit_groups as verb

    verb.show(
        verb.audit_groups(
            model,
            data=data,
            field=field,
            task=task,
            where=where,
            label_field=label_field,
            least=least,
            json=json,
        )
    )


@audit.command(epilog=PATHS)
def predict(
    path: DataPath,
    *,
    classes: Annotated[str, typer.Option(metavar="FILE", help="Classes, one a line, synonyms after |.")],
    label_field: Annotated[
        str | None,
        typer.Option(
            metavar="F", help="Field with the class of a row; else captions tell.", show_default=False
        ),
    ] = None,
    style_field: Annotated[
        str | None,
        typer.Option(metavar="F", help="Field with the drawing style or source.", show_default=False),
    ] = None,
    where: Where = None,
    images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Test images of a class that intervals are for.")
    ] = 20,
    target: Annotated[
        float | None,
        typer.Option(metavar="P", help="Percent below which a class fails.", show_default=False),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Compare with a run, or the JSON of evaluate.", show_default=False),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Labelled data to evaluate the run on.", show_default=False),
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write a page.", show_default=False)
    ] = None,
    json: Json = None,
) -> None:
    """Predict before training which classes will fail, and why (experimental).

    With --check, compare the prediction with a trained model.
    """
    from frugalclip.verbs import audit_predict as verb

    verb.show(
        verb.audit_predict(
            path,
            classes=classes,
            label_field=label_field,
            style_field=style_field,
            where=where,
            images=images,
            target=target,
            check=check,
            test=test,
            report=report,
            json=json,
        )
    )

"""The verbs that take or make a model: evaluate, embed, import, export."""

from typing import Annotated, Literal

import typer

from frugalclip.cli.groups import PATHS, Batch, DataPath, Json, Model, Where, app


@app.command(epilog=PATHS)
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="A MODEL as for embed; several are compared side by side."),
    ],
    *,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="The data set; for a suite the folder of its packs.", show_default=False
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            metavar="TASK", help="zeroshot, retrieval, probe, knn, fewshot, grouping, words or suite."
        ),
    ] = "zeroshot",
    where: Where = None,
    label_field: Annotated[
        str | None, typer.Option(metavar="F", help="Field that names the class of a row.", show_default=False)
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Class names that compete, one a line.", show_default=False),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="SET", help="A prompt set, or a file with one {} a line.", show_default=False),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="L", help="Language of the captions, such as de.", show_default=False),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", metavar="", help="Also measure copying from the training images."),
    ] = False,
    baselines_model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Frozen encoder of the feature baseline.", show_default=False),
    ] = None,
    baselines_data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Training data, if the model's is elsewhere.", show_default=False),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="F", help="Field whose equal values are drawn together.", show_default=False),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="LAYER", help="Features of probes: embedding or pooled.", show_default=False),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", metavar="", help="Also evaluate altered copies of the images.")
    ] = False,
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A suite, one test of it, or a YAML file.", show_default=False),
    ] = None,
    json: Json = None,
) -> None:
    """Evaluate models, with chance, intervals and baselines."""
    from frugalclip.verbs import evaluate as verb

    verb.show(
        verb.evaluate(
            models,
            data=data,
            task=task,
            where=where,
            label_field=label_field,
            classes=classes,
            prompts=prompts,
            language=language,
            baselines=baselines,
            baselines_model=baselines_model,
            baselines_data=baselines_data,
            group=group,
            robustness=robustness,
            suite=suite,
            features=features,  # pyright: ignore[reportArgumentType]  (the verb names the known ones)
            json=json,
        )
    )


@app.command(epilog=PATHS)
def embed(
    model: Model,
    path: DataPath,
    *,
    out: Annotated[str, typer.Option(metavar="STORE", help="Folder of the vectors.")],
    where: Where = None,
    what: Annotated[
        Literal["both", "images", "texts"],
        typer.Option(help="What to encode; both means those that the data has."),
    ] = "both",
    dtype: Annotated[
        Literal["float16", "float32", "int8"], typer.Option(help="Numbers on disk.")
    ] = "float16",
    centre: Annotated[
        bool, typer.Option("--centre", metavar="", help="Subtract the mean vector first.")
    ] = False,
    batch: Batch = 256,
    augmentations: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="A", help="Augmentations of each image, to learn from.", show_default=False
        ),
    ] = None,
    view: Annotated[
        str, typer.Option(metavar="V", help="How they are made: a preset, or settings as in recipes.")
    ] = "{crop_scale: [0.9, 1]}",
    size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Pixels of the student's images.", show_default=False),
    ] = None,
    captions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="F", help="Field with more captions, such as synthetic ones.", show_default=False
        ),
    ] = None,
) -> None:
    """Store the vectors of a data set.

    Called again it continues where it stopped, and adds the new rows of a grown data set.
    """
    from frugalclip.verbs import embed as verb

    verb.show(
        verb.embed(
            model,
            path,
            out=out,
            where=where,
            what=what,
            dtype=dtype,
            centre=centre,
            batch=batch,
            augmentations=augmentations,
            view=view,
            size=size,
            captions=captions or (),
        )
    )


@app.command(
    "import",
    epilog="ARCH: a name of open_clip such as ViT-B-32, or its JSON file; FILE: its weights. "
    "DIR: a saved CLIPModel or SiglipModel.",
)
def import_(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="open_clip:ARCH@FILE or hf:DIR.")],
    *,
    out: Annotated[str, typer.Option(metavar="RUN", help="Folder of the model; made if it is not there.")],
) -> None:
    """Read a model of open_clip or Hugging Face.

    Writes a run directory that every verb takes as a MODEL, and prints what was read and what was assumed.
    """
    from frugalclip.verbs import import_model as verb

    verb.show(verb.import_model(source, out=out))


@app.command(epilog=PATHS)
def export(
    model: Model,
    *,
    to: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="onnx, open_clip, huggingface or sentence_transformers."),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder to make; an earlier export is replaced.")],
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="Numbers of the weights; ONNX takes all.")
    ] = "fp32",
    layout: Annotated[
        str,
        typer.Option(metavar="L", help="Names in the folder: frugalclip, transformers.js or immich (ONNX)."),
    ] = "frugalclip",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Rows to compare on and to calibrate with; default sample.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a model for another library, and measure how far its vectors are."""
    from frugalclip.verbs import export as verb

    verb.show(verb.export(model, to=to, out=out, precision=precision, layout=layout, data=data))

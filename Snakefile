import os

from snakemake.utils import min_version

min_version("9.0")

# Snakemake fetches the rules of a module from github(...) and the like, but not the library beside them.
if not os.path.isdir(str(workflow.current_basedir)):
    raise WorkflowError(
        f"{workflow.current_basedir}: the workflow can be imported from a clone only, because its library lies "
        'beside its Snakefile; clone it and give snakefile: "<clone>/Snakefile"'
    )

# Given with --configfile, or by a workflow that imports this one, a study replaces the default one; Snakemake
# would merge the two.
if not workflow.overwrite_configfiles and config.keys() <= workflow.config_settings.config.keys():

    configfile: next(filter(os.path.exists, ["config.yaml", workflow.source_path("config.yaml")]))


include: "rules/common.smk"
include: "rules/memory.smk"
include: "rules/resources.smk"
include: "rules/thresholds.smk"
include: "rules/patterns.smk"
include: "rules/codebooks.smk"
include: "rules/calibration.smk"
include: "rules/predictions.smk"
include: "rules/evaluation.smk"
include: "rules/collation.smk"
include: "rules/report.smk"


localrules:
    all,
    collate_tables,
    tables,
    figures,


rule all:
    default_target: True
    input:
        TABLES,
        COMPARISONS,
        FIGURES,
        PROVENANCE,


rule tables:
    input:
        TABLES,
        COMPARISONS,


rule figures:
    input:
        FIGURES,

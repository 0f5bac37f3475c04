from snakemake.utils import min_version

min_version("9.0")

# Given with --configfile, a study replaces the default one; Snakemake would merge the two.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/thresholds.smk"
include: "rules/patterns.smk"
include: "rules/codebooks.smk"
include: "rules/calibration.smk"
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

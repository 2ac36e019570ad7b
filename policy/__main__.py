#!/usr/bin/env -S python3 -u
"""The policy pack of the stack: `pulumi preview --policy-pack policy/__main__.py`.

The command names this executable file instead of its folder. The engine then starts the file, also
where the language host cannot run a policy pack (docs/pipeline.md). The engine waits for a line on
standard output that pulumi_policy does not flush: hence `-u`.
"""

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)

from ape_policy import RULES, Rule


def policy(rule: Rule) -> ResourceValidationPolicy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for message in rule.violations(args.resource_type, args.props):
            report(message)

    return ResourceValidationPolicy(rule.name, rule.description, validate)


PolicyPack("ape", [policy(rule) for rule in RULES], enforcement_level=EnforcementLevel.MANDATORY)

"""Workloads that act as cloud accounts (row G13): accounts, bindings, annotations, buckets."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from settings import SettingsError, load
from tests.unit.conftest import part
from tests.unit.program import UPSTREAM, Program, run

NAME = "gke-workload-identity-team-x.test"
EMAIL = "sa-test-app-team-x@my-project.iam.gserviceaccount.com"
PRINCIPAL = (
    "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/"
    "my-project.svc.id.goog/subject/ns/team-x/sa/test"
)


def identity(config: dict[str, Any], *workloads: dict[str, Any], teams: dict[str, list[str]] | None = None) -> Program:
    """The layer alone with these workloads, on teams of another stack."""
    own = part(config, ["workload_identity"], "base")
    own["workload_identity"] = {"kind": "gke", "workloads": list(workloads)}
    upstream = {**UPSTREAM, **({"teams_namespaces": teams} if teams else {})}
    return run(own, references={"base": upstream})


def test_account_binding_and_annotation(gke_program: Program) -> None:
    assert gke_program.one(f"{NAME}-account").inputs == {
        "project": "my-project",
        "accountId": "sa-test-app-team-x",
        "displayName": "sa-test-app-team-x",
        "description": "Acted as by team-x/test in GKE",
    }
    assert gke_program.one(f"{NAME}-binding").inputs == {
        "serviceAccountId": f"projects/my-project/serviceAccounts/{EMAIL}",
        "role": "roles/iam.workloadIdentityUser",
        "member": "serviceAccount:my-project.svc.id.goog[team-x/test]",
    }
    assert gke_program.one(f"{NAME}-service-account").inputs["metadata"] == {
        "namespace": "team-x",
        "name": "test",
        "annotations": {"iam.gke.io/gcp-service-account": EMAIL},
    }


def test_bucket_and_its_one_reader(gke_program: Program) -> None:
    bucket = gke_program.one(f"{NAME}-bucket")
    assert bucket.inputs == {
        "project": "my-project",
        "name": "my-project-bucket",
        "location": "europe-west1",
        "uniformBucketLevelAccess": True,
        "publicAccessPrevention": "enforced",
        "versioning": {"enabled": True},
        "lifecycleRules": [
            {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30, "withState": "ARCHIVED"}}
        ],
        "forceDestroy": True,
    }
    assert gke_program.one(f"{NAME}-object-hello").inputs == {
        "bucket": "my-project-bucket",
        "name": "hello",
        "content": "Hello, World!\n",
        "contentType": "text/plain",
    }
    assert [member.inputs for member in gke_program.of(":BucketIAMMember")] == [
        {"bucket": "my-project-bucket", "role": "roles/storage.objectViewer", "member": f"serviceAccount:{EMAIL}"}
    ]


def test_contract(gke_program: Program) -> None:
    assert gke_program.outputs["workload_identity_accounts"] == {"team-x/test": EMAIL}
    assert gke_program.outputs["workload_identity_contract"] == 1


def test_order(gke_program: Program) -> None:
    """The pool of identities comes with the cluster, the namespace with the team: the binding needs both."""
    namespaces = {one.name for one in gke_program.of(":Namespace") if one.name.startswith("gke-teams")}
    assert len(namespaces) == 2
    for name in ("binding", "service-account"):
        assert namespaces <= gke_program.one(f"{NAME}-{name}").dependencies
    for name in ("account", "bucket"):
        assert {
            "gke-workload-identity-storage",
            "gke-workload-identity-iamcredentials",
        } <= gke_program.one(f"{NAME}-{name}").dependencies


def test_bound_directly(gke: dict[str, Any]) -> None:
    program = identity(
        gke, {"namespace": "team-x", "serviceAccount": "test", "binding": "direct", "bucket": {"name": "data"}}
    )
    assert program.of(":Account") == []
    assert program.of("serviceaccount/iAMMember:IAMMember") == []
    assert "annotations" not in program.one(f"{NAME}-service-account").inputs["metadata"]
    assert program.one(f"{NAME}-viewer").inputs == {
        "bucket": "data",
        "role": "roles/storage.objectViewer",
        "member": PRINCIPAL,
    }
    assert program.outputs["workload_identity_accounts"] == {"team-x/test": PRINCIPAL}


def test_account_without_a_bucket(gke: dict[str, Any]) -> None:
    program = identity(gke, {"namespace": "team-x", "serviceAccount": "test", "account": "sa-only"})
    assert [one.name for one in program.resources if one.type.startswith("gcp:storage/")] == []
    assert program.outputs["workload_identity_accounts"] == {
        "team-x/test": "sa-only@my-project.iam.gserviceaccount.com"
    }


def test_buckets_that_matter_are_kept(gke: dict[str, Any]) -> None:
    workload = gke["workload_identity"]["workloads"][0]
    bucket = identity({**gke, "protect": True}, workload).one(f"{NAME}-bucket")
    assert bucket.protect
    assert bucket.inputs["forceDestroy"] is False
    assert not identity(gke, workload).one(f"{NAME}-bucket").protect


def test_names_do_not_run_into_each_other(gke: dict[str, Any]) -> None:
    one = {"namespace": "a-b", "serviceAccount": "c", "account": "sa-first"}
    other = {"namespace": "a", "serviceAccount": "b-c", "account": "sa-second"}
    program = identity(gke, one, other, teams={"a": ["a", "a-b"]})
    names = [resource.name for resource in program.resources]
    assert len(set(names)) == len(names)


def test_existing_accounts(dev_program: Program) -> None:
    email = "sa-test-app-team-x@meshgate-lab.iam.gserviceaccount.com"
    made = [one for one in dev_program.resources if one.parent == "dev-workload-identity"]
    assert [(one.type, one.inputs["metadata"]) for one in made] == [
        (
            "kubernetes:core/v1:ServiceAccount",
            {"namespace": "team-x", "name": "test", "annotations": {"iam.gke.io/gcp-service-account": email}},
        )
    ]
    assert dev_program.outputs["workload_identity_accounts"] == {"team-x/test": email}


def test_namespace_of_no_team_in_another_stack(gke: dict[str, Any]) -> None:
    with pytest.raises(pulumi.RunError) as error:
        identity(gke, {"namespace": "team-q", "serviceAccount": "test", "account": "sa-only"})
    assert str(error.value) == (
        "meshgate:workload_identity: 'team-q' is no team's namespace (there are: team-x, team-y, team-y-batch); "
        "add it to a team, or take the workload out"
    )


# Settings


def said(config: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by key."""
    with pytest.raises(SettingsError) as error:
        load(config)
    return {problem.key: problem.message for problem in error.value.problems}


@pytest.mark.parametrize(
    ("workload", "key", "message"),
    [
        ({"account": None}, "account", "is missing; give the account's id, or bind direct"),
        (
            {"binding": "direct"},
            "account",
            "has no use: a direct binding makes no account; take it out",
        ),
        (
            {"binding": "direct", "account": None, "bucket": None},
            "bucket",
            "is missing; without it a direct binding allows nothing",
        ),
        (
            {"account": "sa@my-project"},
            "account",
            "is 'sa@my-project'; it must be an account id: 6 to 30 lower-case letters, digits and '-'",
        ),
        ({"namespace": "team-q"}, "namespace", "'team-q' is no team's namespace (there are: team-x, team-y)"),
    ],
)
def test_wrong_settings(gke: dict[str, Any], workload: dict[str, Any], key: str, message: str) -> None:
    gke["workload_identity"]["workloads"][0] |= workload
    assert said(gke) == {f"workload_identity.workloads[0].{key}": message}


def test_nothing_is_made_twice(gke: dict[str, Any]) -> None:
    workloads = gke["workload_identity"]["workloads"]
    workloads.append(dict(workloads[0]))
    assert said(gke) == {
        "workload_identity.workloads[1].serviceAccount": "'team-x/test' is there twice; it acts as one account",
        "workload_identity.workloads[1].account": "'sa-test-app-team-x' is made for another workload already; "
        "each needs its own",
        "workload_identity.workloads[1].bucket.name": "'my-project-bucket' is made for another workload already; "
        "each needs its own",
    }


def test_kind_fits_the_cluster(gke: dict[str, Any], dev_config: dict[str, Any]) -> None:
    dev_config["workload_identity"] = gke["workload_identity"]
    assert said(dev_config)["workload_identity.kind"] == ("is gke, but the cluster is of the kind onprem; use existing")

"""Mounts of containers and services: inputs to requests, and back to state. Pure functions."""

from __future__ import annotations

from ape_docker_provider.daemon import labels_list, labels_map
from ape_docker_provider.values import Data


def mount(item: Data) -> Data:
    """Return the request of one mount, for a container or a service."""
    made: Data = {
        "Type": item["type"],
        "Target": item["target"],
        "Source": item.get("source") or "",
        "ReadOnly": bool(item.get("readOnly")),
    }
    if item.get("bindOptions"):
        made["BindOptions"] = {"Propagation": item["bindOptions"].get("propagation") or ""}
    if item.get("volumeOptions"):
        made["VolumeOptions"] = volume_options(item["volumeOptions"])
    if item.get("tmpfsOptions"):
        options = item["tmpfsOptions"]
        made["TmpfsOptions"] = {
            "SizeBytes": options.get("sizeBytes") or 0,
            "Mode": options.get("mode") or 0,
        }
    return made


def volume_options(options: Data) -> Data:
    """Return the options of a volume mount."""
    made: Data = {
        "NoCopy": bool(options.get("noCopy")),
        "Labels": labels_map(options.get("labels")),
    }
    if options.get("driverName") or options.get("driverOptions"):
        made["DriverConfig"] = {
            "Name": options.get("driverName") or "",
            "Options": options.get("driverOptions") or {},
        }
    if options.get("subpath"):
        made["Subpath"] = options["subpath"]
    return made


def mount_state(item: Data) -> Data:
    """Return the state of one mount."""
    made: Data = {
        "type": item["Type"],
        "target": item["Target"],
        "source": item.get("Source") or "",
        "readOnly": bool(item.get("ReadOnly")),
    }
    if item.get("BindOptions"):
        made["bindOptions"] = {"propagation": item["BindOptions"].get("Propagation") or ""}
    if item.get("VolumeOptions"):
        options = item["VolumeOptions"]
        driver = options.get("DriverConfig") or {}
        made["volumeOptions"] = {
            "noCopy": bool(options.get("NoCopy")),
            "labels": labels_list(options.get("Labels")),
            "driverName": driver.get("Name") or "",
            "driverOptions": driver.get("Options") or {},
        }
        if options.get("Subpath"):
            made["volumeOptions"]["subpath"] = options["Subpath"]
    if item.get("TmpfsOptions"):
        options = item["TmpfsOptions"]
        made["tmpfsOptions"] = {
            "sizeBytes": options.get("SizeBytes") or 0,
            "mode": options.get("Mode") or 0,
        }
    return made

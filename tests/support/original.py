"""A gateway config as the original project writes it, with every key that it knows."""

from __future__ import annotations

from typing import Any


def gateway_config(base_url: str = "http://shop.example:3000") -> dict[str, Any]:
    tracing = {"enabled": True, "headerName": "X-Trace-ID"}
    retries = {"max_retries": 3, "backoff_factor": 1.5, "retry_on": [502, 503, 504, 408, 429]}
    limit = {"windowMs": 60000, "max": 100}
    return {
        "gateway": {
            "name": "shop-mcp-gateway",
            "version": "1.0.0",
            "port": 3000,
            "cors": {"enabled": True, "origins": ["*"]},
            "rateLimit": {"enabled": True, "windowMs": 60000, "max": 1000},
        },
        "routes": {
            "sut_api": {
                "name": "Shop",
                "description": "The application under test.",
                "base_url": base_url,
                "timeout": 30000,
                "retry_policy": retries,
                "endpoints": [
                    {
                        "path": "/api/products",
                        "methods": ["GET"],
                        "description": "All products.",
                        "rateLimit": limit,
                        "metadata": {"sessionRequired": False, "sampleData": {}},
                    },
                    {
                        "path": "/api/cart",
                        "methods": ["GET", "POST", "PUT", "DELETE", "PATCH"],
                        "description": "The cart.",
                        "rateLimit": {"windowMs": 1000, "max": 5},
                        "metadata": {"requiredFields": ["productId"]},
                    },
                ],
                "health_check": {"enabled": True, "path": "/health", "interval": 30000},
                "sessionHandling": {"enabled": True, "cookieSupport": True},
                "paginationHandling": {"enabled": True, "pageParam": "page"},
                "dataModels": {"Product": {"id": "string"}},
                "errorHandling": {"patterns": [], "retryableErrors": [429]},
            },
            "cerebras_api": {
                "name": "Inference",
                "description": "The model.",
                "base_url": "http://cerebras_proxy:8000",
                "timeout": 10000,
                "retry_policy": retries | {"max_retries": 2},
                "endpoints": [{"path": "/v1/chat/completions", "methods": ["POST"]}],
                "health_check": {"enabled": True, "path": "/health", "interval": 15000},
            },
        },
        "logging": {"level": "info", "format": "json", "tracing": tracing},
        "metrics": {"enabled": True, "endpoint": "/metrics"},
    }

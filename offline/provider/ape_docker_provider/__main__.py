"""Entry point: `python -m ape_docker_provider ENGINE_ADDRESS`."""

from ape_docker_provider.server import main

if __name__ == "__main__":
    main()

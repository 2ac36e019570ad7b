from ape_infra.cli import main

main()

from ape_infra.cli import app

app(prog_name="ape-load")

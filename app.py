"""The web app: `streamlit run app.py`, or `needle ui`."""

from needle import ui

ui.main()

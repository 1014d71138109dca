"""An answer as an object of your own class."""

from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel, Field

from aistrale_llamaindex import AistraleLLM


class Ingredient(BaseModel):
    """What goes into a dish."""

    name: str
    grams: int


class Recipe(BaseModel):
    """How a dish is made."""

    title: str
    minutes: int = Field(description="How long it takes")
    ingredients: list[Ingredient]


recipe = AistraleLLM().structured_predict(Recipe, PromptTemplate("A recipe for {dish}."), dish="apple cake")
print(f"{recipe.title}, {recipe.minutes} minutes")
for ingredient in recipe.ingredients:
    print(f"  {ingredient.grams} g {ingredient.name}")
